output "address" {
  description = "Where clients connect: point the name in the certificate at it. On Cloud Run a URL."
  value       = local.on_cloud_run ? google_cloud_run_v2_service.edge[0].uri : google_compute_address.edge[0].address
}

output "jobs" {
  description = "The jobs, for `gcloud run jobs execute`."
  value       = { for name, job in google_cloud_run_v2_job.this : name => job.name }
}

output "tokens_bucket" {
  description = "Where `keys create --token-to /tokens/NAME` puts a token, for a day."
  value       = google_storage_bucket.tokens.url
}

output "accounts" {
  description = "Who the edges and the jobs are; an upstream that is called by the edges trusts the first."
  value = {
    edge    = google_service_account.edge.email
    issuer  = google_service_account.issuer.email
    migrate = google_service_account.migrate.email
  }
}

output "network" {
  description = "The VPC that upstreams have to be in, or be reached from."
  value       = local.network
}

output "database" {
  description = "The usage database."
  value = {
    instance = google_sql_database_instance.usage.name
    address  = google_sql_database_instance.usage.private_ip_address
    name     = google_sql_database.usage.name
  }
}

output "keys" {
  description = "Where the keys are in Firestore."
  value = {
    database   = google_firestore_database.keys.name
    collection = var.firestore_collection
  }
}

output "secrets" {
  description = "Names of the secrets, no values."
  value = {
    encryption_password = google_secret_manager_secret.encryption_password.secret_id
    database_password   = google_secret_manager_secret.database_password.secret_id
  }
}
