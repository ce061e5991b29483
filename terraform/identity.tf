# Three accounts that run the image, each for one purpose, and one that starts
# a job by the clock. None is an owner or editor of anything.
resource "google_service_account" "edge" {
  account_id   = "${var.name}-edge"
  display_name = "Edges: read keys, record usage"
}

resource "google_service_account" "issuer" {
  account_id   = "${var.name}-issuer"
  display_name = "Jobs that issue and change keys"
}

resource "google_service_account" "migrate" {
  account_id   = "${var.name}-migrate"
  display_name = "The job that migrates the usage database"
}

resource "google_service_account" "scheduler" {
  account_id   = "${var.name}-clock"
  display_name = "Starts the job that brings the keys' counters up to date"
}

locals {
  accounts = {
    edge    = google_service_account.edge.member
    issuer  = google_service_account.issuer.member
    migrate = google_service_account.migrate.member
  }

  keys_only  = "resource.name == \"projects/${var.project}/databases/${google_firestore_database.keys.name}\""
  usage_only = "resource.name == \"projects/${var.project}/instances/${google_sql_database_instance.usage.name}\" && resource.service == \"sqladmin.googleapis.com\""

  # In the whole project, as far as no condition narrows it.
  roles = {
    edge_reads_keys     = { member = "edge", role = "roles/datastore.viewer", condition = local.keys_only }
    edge_logs_in        = { member = "edge", role = "roles/cloudsql.instanceUser", condition = local.usage_only }
    edge_writes_logs    = { member = "edge", role = "roles/logging.logWriter", condition = null }
    edge_writes_metrics = { member = "edge", role = "roles/monitoring.metricWriter", condition = null }
    issuer_writes_keys  = { member = "issuer", role = "roles/datastore.user", condition = local.keys_only }
    issuer_logs_in      = { member = "issuer", role = "roles/cloudsql.instanceUser", condition = local.usage_only }
  }
}

resource "google_project_iam_member" "this" {
  for_each = local.roles

  project = var.project
  role    = each.value.role
  member  = local.accounts[each.value.member]

  dynamic "condition" {
    for_each = each.value.condition == null ? [] : [each.value.condition]

    content {
      title      = "only-this-database"
      expression = condition.value
    }
  }
}

# Who opens which secret.
locals {
  secret_readers = merge(
    {
      edge_encryption  = { secret = google_secret_manager_secret.encryption_password.id, member = local.accounts.edge }
      issue_encryption = { secret = google_secret_manager_secret.encryption_password.id, member = local.accounts.issuer }
      migrate_database = { secret = google_secret_manager_secret.database_password.id, member = local.accounts.migrate }
    },
    merge([
      for file, content in local.files : {
        for reader, member in content.readers : "${reader}_${file}" => { secret = google_secret_manager_secret.file[file].id, member = member }
      }
    ]...),
  )
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = local.secret_readers

  secret_id = each.value.secret
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value.member
}

# The machines pull the image as the edge's account; Cloud Run as its own.
resource "google_artifact_registry_repository_iam_member" "edge" {
  count = local.on_instances ? 1 : 0

  project    = local.repository.project
  location   = local.repository.location
  repository = local.repository.name
  role       = "roles/artifactregistry.reader"
  member     = local.accounts.edge
}
