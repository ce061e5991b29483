variable "project" {
  description = "The project that everything is made in. One of its own, if you can: whoever owns the project owns the keys."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lowercase letters, digits and hyphens."
  }
}

variable "region" {
  description = "Where the edges and the usage database run."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region looks like europe-west1; a zone or a multi-region is none."
  }
}

variable "name" {
  description = "What the names of all resources begin with."
  type        = string
  default     = "cypheron-edge"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "3 to 20 lowercase letters, digits and hyphens: the names of service accounts are made of it."
  }
}

variable "image" {
  description = "The image, by its digest: REGION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE@sha256:..."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+-docker\\.pkg\\.dev/[^/@]+/[^/@]+/[^@]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "An image in Artifact Registry, by digest: a tag can be moved to something that was never tested."
  }
}

variable "edge_config" {
  description = "The edge's TOML: [upstreams], [[routes]] and whatever else differs from the defaults. What this configuration decides (stores, addresses, limits of connections) is set over it by the environment. Nothing secret belongs in it."
  type        = string

  validation {
    condition     = strcontains(var.edge_config, "[[routes]]")
    error_message = "At least one [[routes]] has to be there, or the edge has nothing to do."
  }

  validation {
    condition     = length(var.edge_config) <= 60000
    error_message = "At most 60,000 characters: a secret's version holds no more than 64 KiB."
  }
}

variable "platform" {
  description = "\"instances\": virtual machines, each with a disk that the journal outlives them on. \"cloud-run\": nothing to look after, and a journal that dies with its instance."
  type        = string
  default     = "instances"

  validation {
    condition     = contains(["instances", "cloud-run"], var.platform)
    error_message = "\"instances\" or \"cloud-run\"."
  }
}

variable "max_instances" {
  description = "How many edges there are: virtual machines, or the most that Cloud Run may start."
  type        = number
  default     = 3

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100 && floor(var.max_instances) == var.max_instances
    error_message = "A whole number from 1 to 100."
  }
}

variable "min_instances" {
  description = "How many edges Cloud Run keeps running. Of no meaning for virtual machines, which all run."
  type        = number
  default     = 1

  validation {
    condition     = var.min_instances >= 1 && floor(var.min_instances) == var.min_instances
    error_message = "At least 1: an edge that was scaled to zero ships no usage, and its next request waits for the keyring to be opened."
  }

  validation {
    condition     = var.min_instances <= var.max_instances
    error_message = "No more than max_instances."
  }
}

variable "machine_type" {
  description = "Of a virtual machine. The edge starts a worker for each CPU."
  type        = string
  default     = "e2-standard-2"
}

variable "cpu" {
  description = "CPUs of an edge on Cloud Run."
  type        = number
  default     = 2

  validation {
    condition     = contains([1, 2, 4, 8], var.cpu)
    error_message = "1, 2, 4 or 8."
  }
}

variable "memory_gib" {
  description = "Memory of an edge on Cloud Run, in GiB. A quarter of it holds the journal."
  type        = number
  default     = 2

  validation {
    condition     = var.memory_gib >= 1 && var.memory_gib <= 32
    error_message = "From 1 to 32."
  }
}

variable "journal_disk_gib" {
  description = "The disk of a virtual machine's journal, in GiB; `usage.journal.max_bytes` is set to three quarters of it. At 150 bytes an event, 10 GiB are about 50 million requests that the database may miss."
  type        = number
  default     = 10

  validation {
    condition     = var.journal_disk_gib >= 10 && var.journal_disk_gib <= 1000
    error_message = "From 10 to 1000: the smallest balanced disk has 10 GiB."
  }
}

variable "os_image" {
  description = "The Container-Optimized OS that the virtual machines boot from."
  type        = string
  default     = "projects/cos-cloud/global/images/family/cos-stable"
}

variable "load_balancer" {
  description = "In front of virtual machines. \"application\": a regional external Application Load Balancer with TLS, which tells the client's address in X-Forwarded-For. \"passthrough\": an internal Network Load Balancer, which changes nothing: the peer is the client, and nothing is encrypted."
  type        = string
  default     = "application"

  validation {
    condition     = contains(["application", "passthrough"], var.load_balancer)
    error_message = "\"application\" or \"passthrough\"."
  }
}

variable "certificates" {
  description = "For the application load balancer: regional Certificate Manager certificates, projects/P/locations/REGION/certificates/NAME."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for one in var.certificates : can(regex("^(//certificatemanager\\.googleapis\\.com/)?projects/[^/]+/locations/[^/]+/certificates/[^/]+$", one))])
    error_message = "projects/PROJECT/locations/REGION/certificates/NAME, each."
  }

  validation {
    condition     = length(var.certificates) > 0 || var.platform != "instances" || var.load_balancer != "application"
    error_message = "The application load balancer needs a certificate: API keys are not sent in clear over the internet."
  }
}

variable "client_ranges" {
  description = "The networks whose clients the passthrough load balancer is open to."
  type        = list(string)
  default     = ["10.0.0.0/8"]

  validation {
    condition     = alltrue([for range in var.client_ranges : can(cidrhost(range, 0))]) && !contains(var.client_ranges, "0.0.0.0/0")
    error_message = "Networks such as 10.0.0.0/8; not all there are."
  }
}

variable "network" {
  description = "An existing VPC network to be in, projects/P/global/networks/N; when null, one is made. It has to have no private services access yet."
  type        = string
  default     = null
}

variable "subnet_range" {
  description = "Addresses of the edges, and of the jobs."
  type        = string
  default     = "10.20.0.0/24"

  validation {
    condition     = can(cidrhost(var.subnet_range, 0))
    error_message = "A network such as 10.20.0.0/24."
  }
}

variable "proxy_range" {
  description = "Addresses of the application load balancer's proxies, which the edges believe X-Forwarded-For of."
  type        = string
  default     = "10.20.1.0/24"

  validation {
    condition     = can(cidrhost(var.proxy_range, 0))
    error_message = "A network such as 10.20.1.0/24."
  }
}

variable "internet_egress" {
  description = "Whether edges may reach upstreams on the internet, through Cloud NAT. Google's services and the VPC they reach without it."
  type        = bool
  default     = false
}

variable "firestore_location" {
  description = "Where the keys are: a region, or a multi-region such as eur3 or nam5. Can never be changed."
  type        = string
}

variable "firestore_collection" {
  description = "The collection of the keys; the keyring is in the one named so with `_keyring`."
  type        = string
  default     = "api_keys"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_-]{0,99}$", var.firestore_collection))
    error_message = "A letter, then letters, digits, `_` and `-`."
  }
}

variable "database_tier" {
  description = "The machine of the usage database."
  type        = string
  default     = "db-custom-2-7680"
}

variable "database_disk_gib" {
  description = "The first size of its disk, which grows by itself up to ten times this."
  type        = number
  default     = 50

  validation {
    condition     = var.database_disk_gib >= 10
    error_message = "At least 10."
  }
}

variable "database_max_connections" {
  description = "PostgreSQL's max_connections. Ten of them are kept for Cloud SQL, the jobs and you."
  type        = number
  default     = 100

  validation {
    condition     = var.database_max_connections >= 25 && var.database_max_connections <= 5000
    error_message = "From 25 to 5000."
  }
}

variable "edge_database_connections" {
  description = "DB_MAX_CONNECTIONS: the most that one edge opens. An idle one holds at most two."
  type        = number
  default     = 20

  validation {
    condition     = var.edge_database_connections >= 2
    error_message = "At least 2: one for each of its two pools."
  }
}

variable "database_high_availability" {
  description = "Whether the usage database has a standby in another zone. Clients notice neither: without, an outage of the zone is a longer journal."
  type        = bool
  default     = true
}

variable "backup_days" {
  description = "How many daily backups of the usage database are kept."
  type        = number
  default     = 14

  validation {
    condition     = var.backup_days >= 7 && var.backup_days <= 365
    error_message = "From 7 to 365."
  }
}

variable "database_password_version" {
  description = "A higher number makes the owner of the usage database a new password. Only the migration job uses it."
  type        = number
  default     = 1

  validation {
    condition     = var.database_password_version >= 1 && floor(var.database_password_version) == var.database_password_version
    error_message = "A whole number from 1."
  }
}

variable "encryption_passwords" {
  description = "The passwords that open the keyring: how many were made so far, which of them the edges use, and whether they hold the newest as well. Make the next one first, give the keyring a slot for it, and only then use it; after a theft, no slot, and `both` instead."
  type = object({
    made = number
    used = number
    both = optional(bool, false)
  })
  default = { made = 1, used = 1 }

  validation {
    condition     = var.encryption_passwords.made >= 1 && var.encryption_passwords.used >= 1 && var.encryption_passwords.used <= var.encryption_passwords.made
    error_message = "`used` is one of 1 to `made`."
  }

  validation {
    condition     = !var.encryption_passwords.both || var.encryption_passwords.used < var.encryption_passwords.made
    error_message = "`both` needs a password newer than the one used: make it first, and end `both` when it is the one used."
  }
}

variable "operators" {
  description = "Who may run the jobs that issue keys, and fetch the tokens they issue: user:..., group:... or serviceAccount:..."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for one in var.operators : can(regex("^(user|group|serviceAccount):.+@.+$", one))])
    error_message = "user:, group: or serviceAccount:, each; never allUsers or a whole domain."
  }
}

variable "sync_usage_schedule" {
  description = "When last_used and usage_count of the keys are brought up to date, in cron's words; null for never."
  type        = string
  default     = "*/15 * * * *"
}

variable "notification_channels" {
  description = "Whom alerts reach: projects/P/notificationChannels/N."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for one in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", one))])
    error_message = "projects/PROJECT/notificationChannels/NUMBER, each."
  }
}

variable "alerts" {
  description = "From where on somebody is told: the share of requests with a key that are refused; p99 from a request's head to its response's, in seconds, the upstream included; how much of the journal may be full."
  type = object({
    refused_share = optional(number, 0.25)
    p99_seconds   = optional(number, 1)
    journal_share = optional(number, 0.1)
  })
  default = {}

  validation {
    condition     = alltrue([for share in [var.alerts.refused_share, var.alerts.journal_share] : share > 0 && share < 1]) && var.alerts.p99_seconds > 0
    error_message = "Shares are between 0 and 1, seconds above 0."
  }
}

variable "collector_image" {
  description = "Google's build of the OpenTelemetry Collector, which brings /metrics to Cloud Monitoring. By digest in production."
  type        = string
  default     = "us-docker.pkg.dev/cloud-ops-agents-artifacts/google-cloud-opentelemetry-collector/otelcol-google:0.142.0"
}

variable "deletion_protection" {
  description = "Whether Google refuses to delete the databases and what runs on them. Only to tear everything down is it false."
  type        = bool
  default     = true
}
