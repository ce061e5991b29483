# Jobs of the same image. An operator runs them with arguments:
#   gcloud run jobs execute cypheron-edge-keys --region R --wait --args=keys,list
locals {
  jobs = merge(
    {
      # Brings the schema up to date, and grants the accounts their rows.
      migrate = {
        account     = google_service_account.migrate
        args        = ["migrate", "--grant", google_sql_user.edge.name, "--grant", google_sql_user.issuer.name]
        environment = local.migrate_environment
        volumes     = ["config", "ca", "owner"]
      }
      # Issues and changes keys, and the keyring. A new token goes into the bucket,
      # never into a log: --token-to /tokens/NAME.
      keys = {
        account     = google_service_account.issuer
        args        = ["keys", "list"]
        environment = merge(local.issuer_environment, { PQ_ENCRYPTION_NEW_PASSWORD_FILE = local.paths.next })
        volumes     = ["config", "ca", "encryption", "next"]
      }
    },
    var.sync_usage_schedule == null ? {} : {
      sync-usage = {
        account     = google_service_account.issuer
        args        = ["keys", "sync-usage"]
        environment = local.issuer_environment
        volumes     = ["config", "ca", "encryption"]
      }
    },
  )
}

resource "google_cloud_run_v2_job" "this" {
  for_each = local.jobs

  name                = "${var.name}-${each.key}"
  location            = var.region
  deletion_protection = false

  template {
    task_count  = 1
    parallelism = 1

    template {
      service_account       = each.value.account.email
      execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
      # A key that was issued is not issued again because its job failed afterwards.
      max_retries = 0
      timeout     = "900s"

      vpc_access {
        egress = "PRIVATE_RANGES_ONLY"

        network_interfaces {
          network    = local.network
          subnetwork = google_compute_subnetwork.edge.id
        }
      }

      containers {
        image = var.image
        args  = each.value.args

        resources {
          limits = { cpu = "1", memory = "1Gi" }
        }

        dynamic "env" {
          for_each = each.value.environment

          content {
            name  = env.key
            value = env.value
          }
        }

        dynamic "volume_mounts" {
          for_each = each.value.volumes

          content {
            name       = volume_mounts.value
            mount_path = dirname(local.volume[volume_mounts.value].path)
          }
        }

        dynamic "volume_mounts" {
          for_each = each.key == "keys" ? ["tokens"] : []

          content {
            name       = volume_mounts.value
            mount_path = local.paths.tokens
          }
        }
      }

      dynamic "volumes" {
        for_each = each.value.volumes

        content {
          name = volumes.value

          secret {
            secret       = local.volume[volumes.value].secret
            default_mode = 292 # 0444

            items {
              version = local.volume[volumes.value].version
              path    = basename(local.volume[volumes.value].path)
            }
          }
        }
      }

      dynamic "volumes" {
        for_each = each.key == "keys" ? ["tokens"] : []

        content {
          name = volumes.value

          gcs {
            bucket        = google_storage_bucket.tokens.name
            read_only     = false
            mount_options = ["uid=${local.image_user}", "gid=${local.image_user}", "file-mode=600", "dir-mode=700"]
          }
        }
      }
    }
  }

  depends_on = [
    google_project_iam_member.this,
    google_secret_manager_secret_iam_member.reader,
    google_storage_bucket_iam_member.tokens,
  ]
}

# Who may run them: `keys` with arguments of their own, `migrate` as it is; and see
# how they end.
resource "google_cloud_run_v2_job_iam_member" "operator" {
  for_each = {
    for pair in setproduct(
      [
        ["migrate", "roles/run.jobsExecutor"],
        ["migrate", "roles/run.viewer"],
        ["keys", "roles/run.jobsExecutorWithOverrides"],
        ["keys", "roles/run.viewer"],
      ],
      var.operators,
    ) : "${pair[0][0]} ${pair[0][1]} ${pair[1]}" => { job = pair[0][0], role = pair[0][1], member = pair[1] }
  }

  name     = google_cloud_run_v2_job.this[each.value.job].name
  location = var.region
  role     = each.value.role
  member   = each.value.member
}

# Where a token that was just issued waits for its owner: a day, and no longer.
resource "google_storage_bucket" "tokens" {
  name                        = "${var.project}-${var.name}-tokens"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  # Deleted is deleted: no version and no grace keeps a token.
  versioning {
    enabled = false
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      age = 1
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_storage_bucket_iam_member" "tokens" {
  for_each = merge(
    { issuer = { role = "roles/storage.objectUser", member = local.accounts.issuer } },
    { for operator in var.operators : operator => { role = "roles/storage.objectUser", member = operator } },
  )

  bucket = google_storage_bucket.tokens.name
  role   = each.value.role
  member = each.value.member
}

resource "google_cloud_run_v2_job_iam_member" "scheduler" {
  count = var.sync_usage_schedule == null ? 0 : 1

  name     = google_cloud_run_v2_job.this["sync-usage"].name
  location = var.region
  role     = "roles/run.jobsExecutor"
  member   = google_service_account.scheduler.member
}

resource "google_cloud_scheduler_job" "sync_usage" {
  count = var.sync_usage_schedule == null ? 0 : 1

  name             = "${var.name}-sync-usage"
  region           = var.region
  schedule         = var.sync_usage_schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "60s"

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.this["sync-usage"].id}:run"

    oauth_token {
      service_account_email = google_service_account.scheduler.email
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }
}
