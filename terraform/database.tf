# Usage: PostgreSQL that only the VPC reaches, and only encrypted.
resource "google_sql_database_instance" "usage" {
  name                = "${var.name}-usage"
  region              = var.region
  database_version    = "POSTGRES_17"
  deletion_protection = var.deletion_protection

  settings {
    edition                     = "ENTERPRISE"
    tier                        = var.database_tier
    availability_type           = var.database_high_availability ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = var.database_disk_gib
    disk_autoresize             = true
    disk_autoresize_limit       = var.database_disk_gib * 10
    deletion_protection_enabled = var.deletion_protection
    retain_backups_on_delete    = true

    ip_configuration {
      ipv4_enabled    = false
      private_network = local.network
      ssl_mode        = "ENCRYPTED_ONLY"
      # An authority of this instance's own: verify-ca names this server alone.
      server_ca_mode = "GOOGLE_MANAGED_INTERNAL_CA"
    }

    backup_configuration {
      enabled                        = true
      point_in_time_recovery_enabled = true
      start_time                     = "02:00"
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = var.backup_days
        retention_unit   = "COUNT"
      }
    }

    final_backup_config {
      enabled        = true
      retention_days = 30
    }

    maintenance_window {
      day          = 7
      hour         = 3
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled = true
      # Whose clients those were stays with the edge's own `usage.client_ip`.
      record_client_address = false
    }

    password_validation_policy {
      enable_password_policy      = true
      min_length                  = 32
      complexity                  = "COMPLEXITY_DEFAULT"
      disallow_username_substring = true
    }

    database_flags {
      name  = "cloudsql.iam_authentication"
      value = "on"
    }

    database_flags {
      name  = "max_connections"
      value = tostring(var.database_max_connections)
    }

    database_flags {
      name  = "cloudsql.enable_pgaudit"
      value = "on"
    }

    # Changes of schema and of roles; not the rows, which are the usage itself.
    database_flags {
      name  = "pgaudit.log"
      value = "ddl,role"
    }

    database_flags {
      name  = "log_checkpoints"
      value = "on"
    }

    database_flags {
      name  = "log_connections"
      value = "on"
    }

    database_flags {
      name  = "log_disconnections"
      value = "on"
    }

    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }

    database_flags {
      name  = "log_min_error_statement"
      value = "error"
    }

    database_flags {
      name  = "log_min_messages"
      value = "warning"
    }

    database_flags {
      name  = "log_temp_files"
      value = "0"
    }
  }

  lifecycle {
    precondition {
      condition     = var.max_instances * var.edge_database_connections <= var.database_max_connections - 10
      error_message = "max_instances * edge_database_connections has to fit database_max_connections less 10: ${var.max_instances} * ${var.edge_database_connections} > ${var.database_max_connections} - 10."
    }
  }

  depends_on = [google_service_networking_connection.services]
}

resource "google_sql_database" "usage" {
  name            = "usage"
  instance        = google_sql_database_instance.usage.name
  deletion_policy = "ABANDON"
}

# Owns the tables. Only the migration job has its password.
resource "google_sql_user" "owner" {
  name                = "usage_owner"
  instance            = google_sql_database_instance.usage.name
  type                = "BUILT_IN"
  password_wo         = ephemeral.random_password.database.result
  password_wo_version = var.database_password_version
  deletion_policy     = "ABANDON"

  # If the password cannot be kept, it is not set either.
  depends_on = [google_secret_manager_secret_version.database_password]
}

# These log in as themselves, with access tokens; the migration job grants them
# what they need: no more than rows.
resource "google_sql_user" "edge" {
  name            = trimsuffix(google_service_account.edge.email, ".gserviceaccount.com")
  instance        = google_sql_database_instance.usage.name
  type            = "CLOUD_IAM_SERVICE_ACCOUNT"
  deletion_policy = "ABANDON"
}

resource "google_sql_user" "issuer" {
  name            = trimsuffix(google_service_account.issuer.email, ".gserviceaccount.com")
  instance        = google_sql_database_instance.usage.name
  type            = "CLOUD_IAM_SERVICE_ACCOUNT"
  deletion_policy = "ABANDON"
}
