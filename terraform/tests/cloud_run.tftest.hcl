# Cloud Run instead of virtual machines.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project            = "my-project-1234"
  region             = "europe-west1"
  firestore_location = "eur3"
  platform           = "cloud-run"
  min_instances      = 2
  max_instances      = 4
  image              = "europe-west1-docker.pkg.dev/my-project-1234/edge/cypheron-edge@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  edge_config        = "[[routes]]\nname = \"all\"\nupstream = \"app\"\n"
}

run "an_edge_works_between_requests_too" {
  assert {
    condition     = google_cloud_run_v2_service.edge[0].template[0].containers[0].resources[0].cpu_idle == false
    error_message = "Between requests it has no CPU: nothing is shipped, no revocation is heard of."
  }
  assert {
    condition     = google_cloud_run_v2_service.edge[0].template[0].containers[0].resources[0].startup_cpu_boost
    error_message = "The keyring is opened slowly."
  }
  assert {
    condition     = google_cloud_run_v2_service.edge[0].template[0].scaling[0].min_instance_count == 2 && google_cloud_run_v2_service.edge[0].template[0].scaling[0].max_instance_count == 4
    error_message = "It is scaled to zero, or beyond what the database has connections for."
  }
  assert {
    condition     = google_cloud_run_v2_service.edge[0].template[0].execution_environment == "EXECUTION_ENVIRONMENT_GEN2"
    error_message = "It is not the second generation."
  }
}

run "it_ends_within_the_ten_seconds_it_is_given" {
  assert {
    condition = sum([for name in ["CYPHERON_EDGE__SERVER__DRAIN_DELAY", "CYPHERON_EDGE__SERVER__DRAIN_TIMEOUT", "CYPHERON_EDGE__USAGE__FLUSH_TIMEOUT"] :
      tonumber(trimsuffix(local.edge_environment[name], "s"))
    ]) < 10
    error_message = "It is killed before its usage is shipped."
  }
}

run "it_reaches_the_database_through_the_vpc" {
  assert {
    condition     = google_cloud_run_v2_service.edge[0].template[0].vpc_access[0].network_interfaces[0].subnetwork == google_compute_subnetwork.edge.id && google_cloud_run_v2_service.edge[0].template[0].vpc_access[0].egress == "PRIVATE_RANGES_ONLY"
    error_message = "It is not in the VPC itself."
  }
  assert {
    condition     = google_cloud_run_v2_service.edge[0].template[0].vpc_access[0].connector == null
    error_message = "There is a connector in between."
  }
}

run "secrets_and_configuration_are_files" {
  assert {
    condition     = { for mount in google_cloud_run_v2_service.edge[0].template[0].containers[0].volume_mounts : mount.name => mount.mount_path } == { ca = "/etc/cypheron-edge/database", config = "/etc/cypheron-edge/config", encryption = "/run/secrets/encryption", data = "/var/lib/cypheron-edge" }
    error_message = "A file is missing, or there is one too many."
  }
  assert {
    condition     = alltrue([for env in google_cloud_run_v2_service.edge[0].template[0].containers[0].env : length(env.value_source) == 0])
    error_message = "A secret is in the environment."
  }
  assert {
    condition     = alltrue([for volume in google_cloud_run_v2_service.edge[0].template[0].volumes : volume.secret[0].items[0].version == "7" if length(volume.secret) > 0])
    error_message = "A file is `latest`: it changes under a revision."
  }
  assert {
    condition     = { for env in google_cloud_run_v2_service.edge[0].template[0].containers[0].env : env.name => env.value }["PQ_ENCRYPTION_PASSWORD_FILE"] == "/run/secrets/encryption/password"
    error_message = "The password is looked for elsewhere."
  }
}

run "an_edge_holds_both_passwords_while_a_theft_is_answered" {
  variables {
    encryption_passwords = { made = 2, used = 1, both = true }
  }
  assert {
    condition     = { for env in google_cloud_run_v2_service.edge[0].template[0].containers[0].env : env.name => env.value }["PQ_ENCRYPTION_NEW_PASSWORD_FILE"] == "/run/secrets/next/password"
    error_message = "It does not look for the newest password."
  }
  assert {
    condition     = contains([for mount in google_cloud_run_v2_service.edge[0].template[0].containers[0].volume_mounts : mount.mount_path], "/run/secrets/next")
    error_message = "The newest password is not there as a file."
  }
}

run "the_journal_is_bounded_by_memory" {
  assert {
    condition     = local.edge_environment.CYPHERON_EDGE__USAGE__JOURNAL__MAX_BYTES == "536870912"
    error_message = "The journal may hold more than a quarter of the memory."
  }
  assert {
    condition     = [for volume in google_cloud_run_v2_service.edge[0].template[0].volumes : volume.empty_dir[0].size_limit if volume.name == "data"] == ["614Mi"]
    error_message = "The data directory is not bounded above the journal."
  }
}

run "the_edge_decides_who_may_pass_and_believes_google_alone" {
  assert {
    condition     = google_cloud_run_v2_service.edge[0].invoker_iam_disabled && google_cloud_run_v2_service.edge[0].ingress == "INGRESS_TRAFFIC_ALL"
    error_message = "Clients need an account of Google's."
  }
  assert {
    condition     = local.edge_environment.CYPHERON_EDGE__SERVER__TRUSTED_PROXIES == "169.254.0.0/16" && local.edge_environment.CYPHERON_EDGE__SERVER__TRUSTED_HOPS == "1"
    error_message = "The edge takes a wrong address for the client's."
  }
  assert {
    condition     = google_cloud_run_v2_service.edge[0].template[0].service_account == google_service_account.edge.email
    error_message = "It runs as somebody else."
  }
}

run "it_is_probed_on_the_health_port" {
  assert {
    condition     = google_cloud_run_v2_service.edge[0].template[0].containers[0].startup_probe[0].http_get[0].port == 9902 && google_cloud_run_v2_service.edge[0].template[0].containers[0].startup_probe[0].http_get[0].path == "/readyz"
    error_message = "Requests come before the keyring is open."
  }
  assert {
    condition     = google_cloud_run_v2_service.edge[0].template[0].containers[0].liveness_probe[0].http_get[0].path == "/healthz"
    error_message = "A fault of a store makes it start anew."
  }
}

run "its_metrics_reach_cloud_monitoring" {
  assert {
    condition     = google_cloud_run_v2_service.edge[0].template[0].containers[1].image == var.collector_image && contains(keys(google_secret_manager_secret.file), "collector")
    error_message = "There is no collector."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.edge["edges-missing"].conditions[0].condition_prometheus_query_language[0].query, "< 2")
    error_message = "Fewer edges than there have to be are no alert."
  }
}

run "there_are_no_machines" {
  assert {
    condition     = length(google_compute_region_instance_group_manager.edge) == 0 && length(google_compute_forwarding_rule.edge) == 0 && length(google_compute_firewall.open) == 0 && length(google_artifact_registry_repository_iam_member.edge) == 0
    error_message = "Something of the other platform is left."
  }
}
