# Every secret is made while Terraform runs, written, and forgotten: neither the
# state nor a plan has it.
ephemeral "random_password" "encryption" {
  count = var.encryption_passwords.made

  length  = 48
  special = false
}

ephemeral "random_password" "database" {
  length      = 48
  special     = true
  min_lower   = 1
  min_upper   = 1
  min_numeric = 1
  min_special = 1
  # What needs no quoting anywhere.
  override_special = "-_.~"
}

# What opens the keyring. Without it the keys in Firestore are noise: losing it
# is losing them.
resource "google_secret_manager_secret" "encryption_password" {
  secret_id           = "${var.name}-encryption-password"
  deletion_protection = var.deletion_protection
  # A version that was destroyed by mistake can be had back for a week.
  version_destroy_ttl = "604800s"

  replication {
    auto {}
  }

  depends_on = [google_project_service.this]
}

resource "google_secret_manager_secret_version" "encryption_password" {
  count = var.encryption_passwords.made

  secret         = google_secret_manager_secret.encryption_password.id
  secret_data_wo = ephemeral.random_password.encryption[count.index].result
  # Never another: the next password is the next version.
  secret_data_wo_version = "1"
  # One that is no longer used opens backups still.
  deletion_policy = "DISABLE"
}

locals {
  encryption_password = google_secret_manager_secret_version.encryption_password[var.encryption_passwords.used - 1]
  newest_password     = google_secret_manager_secret_version.encryption_password[var.encryption_passwords.made - 1]
}

resource "google_secret_manager_secret" "database_password" {
  secret_id           = "${var.name}-database-password"
  deletion_protection = var.deletion_protection

  replication {
    auto {}
  }

  depends_on = [google_project_service.this]
}

resource "google_secret_manager_secret_version" "database_password" {
  secret                 = google_secret_manager_secret.database_password.id
  secret_data_wo         = ephemeral.random_password.database.result
  secret_data_wo_version = tostring(var.database_password_version)
  deletion_policy        = "DISABLE"

  lifecycle {
    create_before_destroy = true
  }
}

# Files that are not secret. Cloud Run mounts files from here only; the machines
# fetch them from the same place, by version: a new one is rolled out, never found.
locals {
  files = merge(
    {
      config = { content = var.edge_config, readers = local.accounts }
      ca     = { content = local.database_ca, readers = local.accounts }
    },
    local.on_cloud_run ? {
      collector = { content = local.collector_config, readers = { edge = local.accounts.edge } }
    } : {},
  )
}

resource "google_secret_manager_secret" "file" {
  for_each = local.files

  secret_id = "${var.name}-${each.key}"

  replication {
    auto {}
  }

  depends_on = [google_project_service.this]
}

resource "google_secret_manager_secret_version" "file" {
  for_each = local.files

  secret                 = google_secret_manager_secret.file[each.key].id
  secret_data_wo         = each.value.content
  secret_data_wo_version = sha256(each.value.content)
  deletion_policy        = "DISABLE"

  lifecycle {
    create_before_destroy = true
  }
}
