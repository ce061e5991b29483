# Nothing in it has an address of its own on the internet.
resource "google_compute_network" "this" {
  count = var.network == null ? 1 : 0

  name                            = var.name
  auto_create_subnetworks         = false
  delete_default_routes_on_create = false
  routing_mode                    = "REGIONAL"

  depends_on = [google_project_service.this]
}

locals {
  network = var.network == null ? google_compute_network.this[0].id : var.network
}

resource "google_compute_subnetwork" "edge" {
  name          = var.name
  network       = local.network
  region        = var.region
  ip_cidr_range = var.subnet_range

  # Firestore, secrets, images and metrics are reached without an address outside.
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

# Where the application load balancer's proxies are.
resource "google_compute_subnetwork" "proxies" {
  count = local.application ? 1 : 0

  name          = "${var.name}-proxies"
  network       = local.network
  region        = var.region
  ip_cidr_range = var.proxy_range
  purpose       = "REGIONAL_MANAGED_PROXY"
  role          = "ACTIVE"
}

# Where Cloud SQL's private address is taken from.
resource "google_compute_global_address" "services" {
  name          = "${var.name}-services"
  network       = local.network
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
}

resource "google_service_networking_connection" "services" {
  network                 = local.network
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]
}

locals {
  # What a machine's port is open to; everything else is closed, SSH too.
  openings = merge(
    local.on_instances ? {
      # Of Google's health checks, of load balancer and instance group.
      health = { port = local.ports.health, ranges = ["35.191.0.0/16", "130.211.0.0/22"] }
    } : {},
    local.application ? {
      proxies = { port = local.ports.traffic, ranges = [var.proxy_range] }
    } : {},
    local.passthrough ? {
      clients = { port = local.ports.traffic, ranges = var.client_ranges }
    } : {},
  )
}

resource "google_compute_firewall" "open" {
  for_each = local.openings

  name                    = "${var.name}-${each.key}"
  network                 = local.network
  direction               = "INGRESS"
  source_ranges           = each.value.ranges
  target_service_accounts = [google_service_account.edge.email]

  allow {
    protocol = "tcp"
    ports    = [tostring(each.value.port)]
  }
}

resource "google_compute_router" "egress" {
  count = var.internet_egress ? 1 : 0

  name    = var.name
  network = local.network
  region  = var.region
}

resource "google_compute_router_nat" "egress" {
  count = var.internet_egress ? 1 : 0

  name                               = var.name
  router                             = google_compute_router.egress[0].name
  region                             = var.region
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"

  subnetwork {
    name                    = google_compute_subnetwork.edge.id
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}
