# Edges on Cloud Run. Their journal lies in memory and dies with its instance:
# what was not shipped in the 10 s that an instance has to end is lost.
resource "google_cloud_run_v2_service" "edge" {
  count = local.on_cloud_run ? 1 : 0

  name                = var.name
  location            = var.region
  deletion_protection = var.deletion_protection
  ingress             = "INGRESS_TRAFFIC_ALL"
  # The edge itself decides who may pass, by their keys.
  invoker_iam_disabled = true

  template {
    service_account                  = google_service_account.edge.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = 1000
    timeout                          = "3600s"

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

    vpc_access {
      egress = var.internet_egress ? "ALL_TRAFFIC" : "PRIVATE_RANGES_ONLY"

      network_interfaces {
        network    = local.network
        subnetwork = google_compute_subnetwork.edge.id
      }
    }

    containers {
      name  = "edge"
      image = var.image
      args  = ["serve"]

      ports {
        container_port = local.ports.traffic
      }

      resources {
        # The shipper, the change feed and the keyring work between requests too.
        cpu_idle          = false
        startup_cpu_boost = true
        limits            = { cpu = tostring(var.cpu), memory = "${var.memory_gib}Gi" }
      }

      dynamic "env" {
        for_each = local.edge_environment

        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "volume_mounts" {
        for_each = local.run_volumes

        content {
          name       = volume_mounts.key
          mount_path = dirname(volume_mounts.value.path)
        }
      }

      volume_mounts {
        name       = "data"
        mount_path = local.paths.data
      }

      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 30

        http_get {
          path = "/readyz"
          port = local.ports.health
        }
      }

      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 6

        http_get {
          path = "/healthz"
          port = local.ports.health
        }
      }
    }

    containers {
      name       = "collector"
      image      = var.collector_image
      args       = ["--config=/etc/collector/collector.yaml"]
      depends_on = ["edge"]

      resources {
        limits = { cpu = "1", memory = "512Mi" }
      }

      volume_mounts {
        name       = "collector"
        mount_path = "/etc/collector"
      }
    }

    dynamic "volumes" {
      for_each = merge(local.run_volumes, local.run_collector)

      content {
        name = volumes.key

        secret {
          secret       = volumes.value.secret
          default_mode = 292 # 0444: the container's user is not the owner, and reads alone

          items {
            version = volumes.value.version
            path    = basename(volumes.value.path)
          }
        }
      }
    }

    volumes {
      name = "data"

      empty_dir {
        medium     = "MEMORY"
        size_limit = "${floor(var.memory_gib * 1024 * 0.3)}Mi"
      }
    }
  }

  depends_on = [
    google_project_iam_member.this,
    google_secret_manager_secret_iam_member.reader,
  ]
}

locals {
  # Files by version, never `latest`: a revision is what it was when it was rolled out.
  volume = {
    config = {
      secret  = google_secret_manager_secret.file["config"].secret_id
      version = google_secret_manager_secret_version.file["config"].version
      path    = local.paths.config
    }
    ca = {
      secret  = google_secret_manager_secret.file["ca"].secret_id
      version = google_secret_manager_secret_version.file["ca"].version
      path    = local.paths.ca
    }
    encryption = {
      secret  = google_secret_manager_secret.encryption_password.secret_id
      version = local.encryption_password.version
      path    = local.paths.password
    }
    # The newest password there is, for giving the keyring a slot for it, or all of it.
    next = {
      secret  = google_secret_manager_secret.encryption_password.secret_id
      version = local.newest_password.version
      path    = local.paths.next
    }
    owner = {
      secret  = google_secret_manager_secret.database_password.secret_id
      version = google_secret_manager_secret_version.database_password.version
      path    = local.paths.owner
    }
  }

  run_volumes = {
    for name in concat(["config", "ca", "encryption"], var.encryption_passwords.both ? ["next"] : []) :
    name => local.volume[name]
  }

  run_collector = local.on_cloud_run ? {
    collector = {
      secret  = google_secret_manager_secret.file["collector"].secret_id
      version = google_secret_manager_secret_version.file["collector"].version
      path    = "/etc/collector/collector.yaml"
    }
  } : {}
}
