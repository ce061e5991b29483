# What somebody is told of. "page" is for now, whatever the hour: clients are
# turned away, or something is being lost. "ticket" is for the next working day.
# docs/runbook.md has a section for each, under the alert's name.
locals {
  channels = var.notification_channels
  job      = "job=\"${var.name}\""

  # Refusals that a client with a key sees. Strangers without one are always there.
  with_a_key = "address-denied|key-expired|key-inactive|key-unknown|permission-denied|rate-limited"

  edge_alerts = {
    edges-missing = {
      severity = "page"
      after    = "300s"
      query    = "(count(cypheron_edge_build_info{${local.job}}) or vector(0)) < ${local.on_instances ? var.max_instances : var.min_instances}"
      says     = "Fewer edges report than there should be. The others carry their load; with none left, nothing is served."
    }
    refusing-for-our-own-faults = {
      severity = "page"
      after    = "120s"
      query    = "sum(rate(cypheron_edge_requests_total{${local.job}, outcome=~\"store-unavailable|journal-full\"}[5m])) > 0.1"
      says     = "Requests get 503 because Firestore cannot be asked for a key that is not cached, or because the journal is full and when_full is \"refuse\"."
    }
    record-tampered = {
      severity = "page"
      after    = "0s"
      query    = "sum(increase(cypheron_edge_directory_reads_total{${local.job}, outcome=\"tampered\"}[15m])) > 0"
      says     = "A key's record was changed by something other than this software: it did not open, and is refused. The edge's error log has its id. Treat it as a break-in into the key store until it is known not to be."
    }
    usage-lost = {
      severity = "page"
      after    = "0s"
      query    = "sum(increase(cypheron_edge_usage_dropped_total{${local.job}}[15m])) > 0 or sum(increase(cypheron_edge_journal_sync_failures_total{${local.job}}[15m])) > 0 or sum(increase(cypheron_edge_journal_damaged_total{${local.job}}[15m])) > 0"
      says     = "Decided requests are missing from the usage, or may be after a power failure: the journal is full, its disk fails, or it was damaged."
    }
    journal-backlog = {
      severity = "page"
      after    = "600s"
      query    = "max by (instance) (cypheron_edge_journal_backlog_bytes{${local.job}}) > ${floor(local.journal_max_bytes * var.alerts.journal_share)}"
      says     = "An edge has ${var.alerts.journal_share * 100} % of its journal waiting for the usage database. Clients notice nothing until it is full."
    }
    usage-not-stored = {
      severity = "ticket"
      after    = "900s"
      query    = "sum by (instance) (rate(cypheron_edge_usage_sink_failures_total{${local.job}}[5m])) > 0"
      says     = "An edge fails to store usage. Nothing is lost; the journal grows."
    }
    usage-quarantined = {
      severity = "ticket"
      after    = "0s"
      query    = "sum(increase(cypheron_edge_usage_quarantined_total{${local.job}}[1h])) > 0"
      says     = "Events went to usage_quarantine: too old, too far ahead (a clock?), or refused by the database."
    }
    change-feed-down = {
      severity = "page"
      after    = "120s"
      query    = "min by (instance) (cypheron_edge_store_feed_connected{${local.job}}) < 1"
      says     = "An edge does not hear of changes: a revocation is seen when a key is read again (directory.ttl), not within milliseconds."
    }
    change-feed-flapping = {
      severity = "ticket"
      after    = "0s"
      query    = "max by (instance) (increase(cypheron_edge_store_feed_cuts_total{${local.job}}[1h])) > 5"
      says     = "An edge's change feed is cut again and again."
    }
    refusal-spike = {
      severity = "page"
      after    = "600s"
      query    = "sum(rate(cypheron_edge_requests_total{${local.job}, outcome=~\"${local.with_a_key}\"}[10m])) / sum(rate(cypheron_edge_requests_total{${local.job}, outcome=~\"admitted|${local.with_a_key}\"}[10m])) > ${var.alerts.refused_share} and sum(rate(cypheron_edge_requests_total{${local.job}, outcome=~\"${local.with_a_key}\"}[10m])) > 0.5"
      says     = "More than ${var.alerts.refused_share * 100} % of the requests with a key are refused. The label `outcome` says why: many key-unknown are somebody guessing or a copied deployment, many key-expired a customer who was not told."
    }
    slow = {
      severity = "page"
      after    = "600s"
      query    = "histogram_quantile(0.99, sum by (le) (rate(cypheron_edge_request_seconds_bucket{${local.job}}[5m]))) > ${var.alerts.p99_seconds} and sum(rate(cypheron_edge_request_seconds_count{${local.job}}[5m])) > 1"
      says     = "p99 to the head of the response is above ${var.alerts.p99_seconds} s, the upstream's time included."
    }
    upstream-failing = {
      severity = "page"
      after    = "300s"
      query    = "sum by (upstream) (rate(cypheron_edge_upstream_failures_total{${local.job}}[5m])) > ignoring(upstream) group_left() 0.05 * sum(rate(cypheron_edge_requests_total{${local.job}, outcome=\"admitted\"}[5m]))"
      says     = "An upstream fails more than 5 % of all admitted requests. The edge is well; its owner has to know."
    }
    connections-full = {
      severity = "page"
      after    = "0s"
      query    = "sum(increase(cypheron_edge_connections_closed_full_total{${local.job}}[5m])) > 0"
      says     = "Connections are closed because server.max_connections are open: too few edges, or somebody holds them open."
    }
    certificate-expiring = {
      severity = "ticket"
      after    = "3600s"
      query    = "min by (instance, certificate) (cypheron_edge_tls_certificate_expiry_timestamp_seconds{${local.job}}) - time() < 14 * 86400"
      says     = "A certificate that an edge shows its clients expires within two weeks: what renews it does not, or the edge does not take the new files."
    }
    limiter-crowded = {
      severity = "ticket"
      after    = "0s"
      query    = "sum(increase(cypheron_edge_limiter_crowded_total{${local.job}}[1h])) > 0"
      says     = "More keys are in use than limiter.max_keys: some share a limit."
    }
  }

  database = "resource.type = \"cloudsql_database\" AND resource.labels.database_id = \"${var.project}:${google_sql_database_instance.usage.name}\""

  database_alerts = {
    database-cpu = {
      severity  = "ticket"
      after     = "900s"
      metric    = "cpu/utilization"
      threshold = 0.8
      says      = "The usage database's CPU is above 80 %. Clients notice nothing; journals grow when it cannot follow."
    }
    database-disk = {
      severity  = "page"
      after     = "300s"
      metric    = "disk/utilization"
      threshold = 0.85
      says      = "The usage database's disk is above 85 % and does not grow any more: raise database_disk_gib, or keep usage for fewer days (usage.retention)."
    }
    database-connections = {
      severity  = "ticket"
      after     = "300s"
      metric    = "postgresql/num_backends"
      threshold = floor((var.database_max_connections - 10) * 0.9)
      says      = "The usage database has hardly a connection left: something besides edges and jobs uses it."
    }
    database-down = {
      severity  = "ticket"
      after     = "300s"
      metric    = "up"
      threshold = 1
      below     = true
      says      = "The usage database does not answer. Clients notice nothing; journals grow."
    }
  }
}

resource "google_monitoring_alert_policy" "edge" {
  for_each = local.edge_alerts

  display_name          = "${var.name} ${each.key}"
  combiner              = "OR"
  severity              = each.value.severity == "page" ? "CRITICAL" : "WARNING"
  notification_channels = local.channels
  user_labels           = { app = var.name, urgency = each.value.severity }

  conditions {
    display_name = each.key

    condition_prometheus_query_language {
      query               = each.value.query
      duration            = each.value.after
      evaluation_interval = "60s"
      alert_rule          = replace(each.key, "-", "_")
      rule_group          = replace(var.name, "-", "_")
      # They do not exist before the first edge reported.
      disable_metric_validation = true
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "${each.value.says}\n\nWhat to do: docs/runbook.md, \"${each.key}\"."
  }

  alert_strategy {
    auto_close = "3600s"
  }

  depends_on = [google_project_service.this]
}

resource "google_monitoring_alert_policy" "database" {
  for_each = local.database_alerts

  display_name          = "${var.name} ${each.key}"
  combiner              = "OR"
  severity              = each.value.severity == "page" ? "CRITICAL" : "WARNING"
  notification_channels = local.channels
  user_labels           = { app = var.name, urgency = each.value.severity }

  conditions {
    display_name = each.key

    condition_threshold {
      filter          = "${local.database} AND metric.type = \"cloudsql.googleapis.com/database/${each.value.metric}\""
      comparison      = try(each.value.below, false) ? "COMPARISON_LT" : "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = each.value.after

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MEAN"
        # Connections are counted by database.
        cross_series_reducer = each.key == "database-connections" ? "REDUCE_SUM" : "REDUCE_NONE"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "${each.value.says}\n\nWhat to do: docs/runbook.md, \"${each.key}\"."
  }

  alert_strategy {
    auto_close = "3600s"
  }

  depends_on = [google_project_service.this]
}
