# Keys and keyring, in a database of their own, so that who may read or write it
# is said of it alone.
resource "google_firestore_database" "keys" {
  name                              = var.name
  location_id                       = var.firestore_location
  type                              = "FIRESTORE_NATIVE"
  database_edition                  = "STANDARD"
  concurrency_mode                  = "PESSIMISTIC"
  app_engine_integration_mode       = "DISABLED"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = "DELETE"

  depends_on = [google_project_service.this]
}

# Point-in-time recovery reaches back seven days; this goes on.
resource "google_firestore_backup_schedule" "keys" {
  database  = google_firestore_database.keys.name
  retention = "${98 * 24 * 3600}s"

  weekly_recurrence {
    day = "SUNDAY"
  }
}

# Fields that no query asks for cost a write no index. `sealed` could not be
# indexed for long anyway: an index takes 1,500 bytes.
resource "google_firestore_field" "unindexed" {
  for_each = toset([
    "allowed_ips", "created_at", "expires_at", "key_hash", "last_used", "name",
    "permissions", "rate_limit", "revision", "sealed", "usage_count",
  ])

  database   = google_firestore_database.keys.name
  collection = var.firestore_collection
  field      = each.key

  index_config {}
}

# `keys list --active`. By `id`, `updated_at` and `deleted_at` alone every database
# has an index.
resource "google_firestore_index" "active" {
  database   = google_firestore_database.keys.name
  collection = var.firestore_collection

  fields {
    field_path = "is_active"
    order      = "ASCENDING"
  }

  fields {
    field_path = "id"
    order      = "ASCENDING"
  }
}

# The keyring is only ever read by its name.
resource "google_firestore_field" "keyring" {
  database   = google_firestore_database.keys.name
  collection = "${var.firestore_collection}_keyring"
  field      = "*"

  index_config {}
}
