locals {
  on_instances = var.platform == "instances"
  on_cloud_run = var.platform == "cloud-run"
  application  = local.on_instances && var.load_balancer == "application"
  passthrough  = local.on_instances && var.load_balancer == "passthrough"

  ports = { traffic = 8080, health = 9902 }

  # The user that the image runs as.
  image_user = 65532

  repository = regex("^(?P<location>[a-z0-9-]+)-docker\\.pkg\\.dev/(?P<project>[^/]+)/(?P<name>[^/]+)/", var.image)

  gib               = 1024 * 1024 * 1024
  journal_max_bytes = local.on_instances ? floor(var.journal_disk_gib * 0.75 * local.gib) : floor(var.memory_gib * 0.25 * local.gib)

  # Where the parts lie in a container; the same on every platform.
  paths = {
    config   = "/etc/cypheron-edge/config/edge.toml"
    ca       = "/etc/cypheron-edge/database/ca.pem"
    password = "/run/secrets/encryption/password"
    next     = "/run/secrets/next/password"
    owner    = "/run/secrets/database/password"
    data     = "/var/lib/cypheron-edge"
    tokens   = "/tokens"
  }

  # What every process of the image is told, whichever it is.
  store_environment = {
    CYPHERON_EDGE_CONFIG       = local.paths.config
    CYPHERON_EDGE__DATA__DIR   = local.paths.data
    CYPHERON_EDGE__LOG__FORMAT = "json"
    GOOGLE_CLOUD_PROJECT_ID    = var.project
    FIRESTORE_DATABASE         = google_firestore_database.keys.name
    FIRESTORE_COLLECTION       = var.firestore_collection
    DB_HOST                    = google_sql_database_instance.usage.private_ip_address
    DB_NAME                    = google_sql_database.usage.name
    DB_SSL_MODE                = "verify-ca"
    DB_SSL_ROOT_CERT           = local.paths.ca
  }

  # An account of Google's logs in with an access token, not with a password.
  edge_environment = merge(local.store_environment, {
    CYPHERON_EDGE__DATABASE__LOGIN       = "iam"
    CYPHERON_EDGE__HEALTH__LISTEN        = "0.0.0.0:${local.ports.health}"
    CYPHERON_EDGE__LIMITER__INSTANCES    = tostring(local.on_instances ? var.max_instances : var.min_instances)
    CYPHERON_EDGE__SERVER__DRAIN_DELAY   = local.on_instances ? "15s" : "0s"
    CYPHERON_EDGE__SERVER__DRAIN_TIMEOUT = "7s"
    # Longer than the 600 s that the load balancer's proxies keep a connection: they
    # never send a request on one that is being closed.
    CYPHERON_EDGE__SERVER__IDLE_TIMEOUT      = local.application ? "620s" : "75s"
    CYPHERON_EDGE__SERVER__LISTEN            = "0.0.0.0:${local.ports.traffic}"
    CYPHERON_EDGE__SERVER__TRUSTED_HOPS      = local.application ? "2" : "1"
    CYPHERON_EDGE__SERVER__TRUSTED_PROXIES   = local.application ? var.proxy_range : local.on_cloud_run ? "169.254.0.0/16" : "[]"
    CYPHERON_EDGE__USAGE__FLUSH_TIMEOUT      = "2s"
    CYPHERON_EDGE__USAGE__JOURNAL__MAX_BYTES = tostring(local.journal_max_bytes)
    DB_MAX_CONNECTIONS                       = tostring(var.edge_database_connections)
    DB_USER                                  = google_sql_user.edge.name
    PQ_ENCRYPTION_PASSWORD_FILE              = local.paths.password
  }, local.newest_password_environment)

  # While a theft is answered an edge takes the keyring that the newest password
  # alone opens, and goes on with the one that it has until then.
  newest_password_environment = var.encryption_passwords.both ? { PQ_ENCRYPTION_NEW_PASSWORD_FILE = local.paths.next } : {}

  issuer_environment = merge(local.store_environment, {
    CYPHERON_EDGE__DATABASE__LOGIN = "iam"
    DB_MAX_CONNECTIONS             = "2"
    DB_USER                        = google_sql_user.issuer.name
    PQ_ENCRYPTION_PASSWORD_FILE    = local.paths.password
  })

  migrate_environment = merge(local.store_environment, {
    CYPHERON_EDGE__DATABASE__LOGIN = "password"
    DB_MAX_CONNECTIONS             = "2"
    DB_USER                        = google_sql_user.owner.name
    DB_PASSWORD_FILE               = local.paths.owner
  })

  database_ca = join("\n", google_sql_database_instance.usage.server_ca_cert[*].cert)
}
