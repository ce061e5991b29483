# In front of the virtual machines. Both kinds keep the client's address: the
# first in X-Forwarded-For, two entries from the right (the client, then itself);
# the second by being no party to the connection.

# Ready, not just alive: an edge that drains is sent nothing new.
resource "google_compute_region_health_check" "ready" {
  count = local.on_instances ? 1 : 0

  name                = "${var.name}-ready"
  region              = var.region
  check_interval_sec  = 5
  timeout_sec         = 5
  healthy_threshold   = 1
  unhealthy_threshold = 2

  http_health_check {
    port         = local.ports.health
    request_path = "/readyz"
  }

  log_config {
    enable = true
  }
}

resource "google_compute_region_backend_service" "edge" {
  count = local.on_instances ? 1 : 0

  name                            = var.name
  region                          = var.region
  load_balancing_scheme           = local.application ? "EXTERNAL_MANAGED" : "INTERNAL"
  protocol                        = local.application ? "HTTP" : "TCP"
  port_name                       = local.application ? "traffic" : null
  network                         = local.passthrough ? local.network : null
  health_checks                   = [google_compute_region_health_check.ready[0].id]
  connection_draining_timeout_sec = 30
  # Beyond the edge's own limits, which then say what happened.
  timeout_sec        = local.application ? 3600 : null
  locality_lb_policy = local.application ? "LEAST_REQUEST" : null
  session_affinity   = "NONE"

  backend {
    group           = google_compute_region_instance_group_manager.edge[0].instance_group
    balancing_mode  = local.application ? "UTILIZATION" : "CONNECTION"
    capacity_scaler = local.application ? 1 : null
  }

  # Who did what is in the usage; here are the load balancer's own failures.
  log_config {
    enable      = true
    sample_rate = 0.01
  }
}

resource "google_compute_region_url_map" "edge" {
  count = local.application ? 1 : 0

  name            = var.name
  region          = var.region
  default_service = google_compute_region_backend_service.edge[0].id
}

resource "google_compute_region_ssl_policy" "edge" {
  count = local.application ? 1 : 0

  name            = var.name
  region          = var.region
  profile         = "RESTRICTED"
  min_tls_version = "TLS_1_2"
}

resource "google_compute_region_target_https_proxy" "edge" {
  count = local.application ? 1 : 0

  name                             = var.name
  region                           = var.region
  url_map                          = google_compute_region_url_map.edge[0].id
  ssl_policy                       = google_compute_region_ssl_policy.edge[0].id
  certificate_manager_certificates = var.certificates
}

resource "google_compute_address" "edge" {
  count = local.on_instances ? 1 : 0

  name         = var.name
  region       = var.region
  address_type = local.application ? "EXTERNAL" : "INTERNAL"
  network_tier = local.application ? "STANDARD" : null
  subnetwork   = local.application ? null : google_compute_subnetwork.edge.id
}

resource "google_compute_forwarding_rule" "edge" {
  count = local.on_instances ? 1 : 0

  name                  = var.name
  region                = var.region
  load_balancing_scheme = local.application ? "EXTERNAL_MANAGED" : "INTERNAL"
  ip_protocol           = "TCP"
  ip_address            = google_compute_address.edge[0].id
  network               = local.network
  network_tier          = local.application ? "STANDARD" : null

  # There is no port 80: nothing is redirected that would have been sent in clear.
  port_range = local.application ? "443" : null
  target     = local.application ? google_compute_region_target_https_proxy.edge[0].id : null

  ports           = local.passthrough ? [tostring(local.ports.traffic)] : null
  backend_service = local.passthrough ? google_compute_region_backend_service.edge[0].id : null
  subnetwork      = local.passthrough ? google_compute_subnetwork.edge.id : null

  # The proxies' addresses have to be there first.
  depends_on = [google_compute_subnetwork.proxies]
}
