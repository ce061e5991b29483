# Edges on virtual machines: the default, because the journal's disk outlives
# its machine.
locals {
  # What a machine fetches, by version, into files that only memory holds.
  fetched = merge(
    {
      config     = { version = google_secret_manager_secret_version.file["config"].name, path = local.paths.config }
      ca         = { version = google_secret_manager_secret_version.file["ca"].name, path = local.paths.ca }
      encryption = { version = local.encryption_password.name, path = local.paths.password }
    },
    var.encryption_passwords.both ? {
      next = { version = local.newest_password.name, path = local.paths.next }
    } : {},
  )

  user_data = templatefile("${path.module}/templates/user-data.yaml.tftpl", {
    image            = var.image
    registry         = "${local.repository.location}-docker.pkg.dev"
    user             = local.image_user
    data             = local.paths.data
    ports            = local.ports
    environment      = local.edge_environment
    fetched          = local.fetched
    prepare          = file("${path.module}/templates/prepare.sh")
    collector_image  = var.collector_image
    collector_config = local.collector_config
  })
}

resource "google_compute_region_instance_template" "edge" {
  count = local.on_instances ? 1 : 0

  name_prefix  = "${var.name}-"
  region       = var.region
  machine_type = var.machine_type

  disk {
    boot         = true
    source_image = var.os_image
    disk_type    = "pd-balanced"
    disk_size_gb = 20
  }

  disk {
    device_name  = "journal"
    disk_type    = "pd-balanced"
    disk_size_gb = var.journal_disk_gib
    auto_delete  = false
  }

  network_interface {
    subnetwork = google_compute_subnetwork.edge.id
  }

  service_account {
    email = google_service_account.edge.email
    # What the account may do is said by its roles.
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  metadata = {
    user-data                    = local.user_data
    google-logging-enabled       = "true"
    block-project-ssh-keys       = "true"
    enable-oslogin               = "true"
    serial-port-enable           = "false"
    cos-update-strategy          = "update_disabled"
    disable-legacy-endpoints     = "true"
    google-logging-use-fluentbit = "true"
  }

  lifecycle {
    create_before_destroy = true
  }
}

# Alive, not ready: an edge that waits for its stores is not made anew for it.
resource "google_compute_health_check" "alive" {
  count = local.on_instances ? 1 : 0

  name                = "${var.name}-alive"
  check_interval_sec  = 10
  timeout_sec         = 5
  healthy_threshold   = 1
  unhealthy_threshold = 6

  http_health_check {
    port         = local.ports.health
    request_path = "/healthz"
  }

  log_config {
    enable = true
  }
}

data "google_compute_zones" "available" {
  region = var.region
  status = "UP"
}

resource "google_compute_region_instance_group_manager" "edge" {
  count = local.on_instances ? 1 : 0

  name               = var.name
  region             = var.region
  base_instance_name = var.name
  target_size        = var.max_instances
  wait_for_instances = false

  distribution_policy_target_shape = "EVEN"

  version {
    instance_template = google_compute_region_instance_template.edge[0].self_link
  }

  named_port {
    name = "traffic"
    port = local.ports.traffic
  }

  # The journal stays with the machine's name, however often the machine is made anew.
  stateful_disk {
    device_name = "journal"
    delete_rule = "NEVER"
  }

  auto_healing_policies {
    health_check      = google_compute_health_check.alive[0].id
    initial_delay_sec = 300
  }

  instance_lifecycle_policy {
    # A repair brings the version that this configuration has.
    force_update_on_repair = "YES"
  }

  # With a disk that stays, a regional group replaces as many machines at once as
  # it has zones: of three, all. So nothing is rolled out before you say which.
  update_policy {
    type                         = "OPPORTUNISTIC"
    minimal_action               = "REPLACE"
    replacement_method           = "RECREATE"
    instance_redistribution_type = "NONE"
    max_surge_fixed              = 0
    max_unavailable_fixed        = length(data.google_compute_zones.available.names)
  }

  # A machine fetches image and files when it starts.
  depends_on = [
    google_artifact_registry_repository_iam_member.edge,
    google_project_iam_member.this,
    google_secret_manager_secret_iam_member.reader,
  ]
}
