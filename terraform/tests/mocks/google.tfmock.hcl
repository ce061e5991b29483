# Stand-ins for what only Google decides.
mock_resource "google_service_account" {
  defaults = {
    email  = "account@my-project-1234.iam.gserviceaccount.com"
    member = "serviceAccount:account@my-project-1234.iam.gserviceaccount.com"
  }
}

mock_resource "google_sql_database_instance" {
  defaults = {
    private_ip_address = "10.30.0.3"
    server_ca_cert     = [{ cert = "-----BEGIN CERTIFICATE-----\nMOCK\n-----END CERTIFICATE-----", common_name = "", create_time = "", expiration_time = "", sha1_fingerprint = "" }]
  }
}

mock_resource "google_secret_manager_secret" {
  defaults = {
    id = "projects/1234/secrets/mock"
  }
}

mock_resource "google_secret_manager_secret_version" {
  defaults = {
    name    = "projects/1234/secrets/mock/versions/7"
    version = "7"
  }
}

mock_data "google_compute_zones" {
  defaults = {
    names = ["europe-west1-b", "europe-west1-c", "europe-west1-d"]
  }
}
