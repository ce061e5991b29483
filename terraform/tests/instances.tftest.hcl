# Virtual machines behind the application load balancer: the default.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project               = "my-project-1234"
  region                = "europe-west1"
  firestore_location    = "europe-west1"
  image                 = "europe-west1-docker.pkg.dev/my-project-1234/edge/cypheron-edge@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  certificates          = ["projects/my-project-1234/locations/europe-west1/certificates/api"]
  edge_config           = "[[routes]]\nname = \"all\"\nupstream = \"app\"\n"
  operators             = ["group:operators@example.com"]
  notification_channels = ["projects/my-project-1234/notificationChannels/1"]
}

run "the_usage_database_is_private_encrypted_and_kept" {
  assert {
    condition     = google_sql_database_instance.usage.settings[0].ip_configuration[0].ipv4_enabled == false
    error_message = "It has a public address."
  }
  assert {
    condition     = google_sql_database_instance.usage.settings[0].ip_configuration[0].private_network == google_compute_network.this[0].id
    error_message = "It is not in the VPC."
  }
  assert {
    condition     = length(google_sql_database_instance.usage.settings[0].ip_configuration[0].authorized_networks) == 0
    error_message = "A network outside is let in."
  }
  assert {
    condition     = google_sql_database_instance.usage.settings[0].ip_configuration[0].ssl_mode == "ENCRYPTED_ONLY"
    error_message = "Plain connections are accepted."
  }
  assert {
    condition     = google_sql_database_instance.usage.settings[0].backup_configuration[0].enabled && google_sql_database_instance.usage.settings[0].backup_configuration[0].backup_retention_settings[0].retained_backups == 14
    error_message = "There are no daily backups for two weeks."
  }
  assert {
    condition     = google_sql_database_instance.usage.settings[0].backup_configuration[0].point_in_time_recovery_enabled && google_sql_database_instance.usage.settings[0].backup_configuration[0].transaction_log_retention_days == 7
    error_message = "It cannot be recovered to a point in time."
  }
  assert {
    condition     = google_sql_database_instance.usage.deletion_protection && google_sql_database_instance.usage.settings[0].deletion_protection_enabled
    error_message = "It can be deleted, by Terraform or by anybody."
  }
  assert {
    condition     = one([for flag in google_sql_database_instance.usage.settings[0].database_flags : flag.value if flag.name == "cloudsql.iam_authentication"]) == "on"
    error_message = "IAM login is off."
  }
  assert {
    condition     = one([for flag in google_sql_database_instance.usage.settings[0].database_flags : flag.value if flag.name == "max_connections"]) == "100"
    error_message = "max_connections is not what the precondition counts with."
  }
}

run "edges_log_in_as_themselves_and_verify_the_server" {
  assert {
    condition     = google_sql_user.edge.type == "CLOUD_IAM_SERVICE_ACCOUNT" && google_sql_user.issuer.type == "CLOUD_IAM_SERVICE_ACCOUNT"
    error_message = "An account has a password."
  }
  assert {
    condition     = google_sql_user.edge.name == "account@my-project-1234.iam"
    error_message = "An IAM user of PostgreSQL is called as the account without its domain."
  }
  assert {
    condition     = local.edge_environment.CYPHERON_EDGE__DATABASE__LOGIN == "iam" && !contains(keys(local.edge_environment), "DB_PASSWORD_FILE")
    error_message = "The edge has a database password."
  }
  assert {
    condition     = local.edge_environment.DB_SSL_MODE == "verify-ca" && local.edge_environment.DB_SSL_ROOT_CERT == "/etc/cypheron-edge/database/ca.pem"
    error_message = "The edge does not verify the database's certificate."
  }
}

run "no_secret_is_in_the_state" {
  assert {
    condition = alltrue([for version in concat(
      google_secret_manager_secret_version.encryption_password[*],
      [google_secret_manager_secret_version.database_password],
      values(google_secret_manager_secret_version.file),
    ) : version.secret_data == null && version.secret_data_wo == null])
    error_message = "A secret's version is in the state."
  }
  assert {
    condition     = google_sql_user.owner.password == null && google_sql_user.owner.password_wo == null && google_sql_user.owner.password_wo_version == 1
    error_message = "The owner's password is in the state."
  }
  assert {
    condition     = google_sql_database_instance.usage.root_password == null
    error_message = "A root password is in the state."
  }
  assert {
    condition = alltrue([for name, value in merge(local.edge_environment, local.issuer_environment, local.migrate_environment) :
      !strcontains(name, "PASSWORD") || (endswith(name, "_FILE") && startswith(value, "/run/secrets/"))
    ])
    error_message = "A password is in the environment."
  }
}

run "keys_are_protected_and_the_edge_only_reads_them" {
  assert {
    condition     = google_firestore_database.keys.type == "FIRESTORE_NATIVE" && google_firestore_database.keys.name == "cypheron-edge"
    error_message = "The keys have no native database of their own."
  }
  assert {
    condition     = google_firestore_database.keys.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED" && google_firestore_database.keys.delete_protection_state == "DELETE_PROTECTION_ENABLED"
    error_message = "The keys cannot be recovered, or can be deleted."
  }
  assert {
    condition     = google_project_iam_member.this["edge_reads_keys"].role == "roles/datastore.viewer"
    error_message = "The edge can write keys."
  }
  assert {
    condition     = google_project_iam_member.this["issuer_writes_keys"].role == "roles/datastore.user"
    error_message = "The issuer cannot write keys, or can do more."
  }
  assert {
    condition = alltrue([for name in ["edge_reads_keys", "issuer_writes_keys"] :
      google_project_iam_member.this[name].condition[0].expression == "resource.name == \"projects/my-project-1234/databases/cypheron-edge\""
    ])
    error_message = "An account reaches other databases of the project."
  }
  assert {
    condition     = length([for name, one in local.roles : name if one.member == "edge" && strcontains(one.role, "datastore")]) == 1
    error_message = "The edge has a second role on Firestore."
  }
}

run "what_is_asked_for_has_an_index_and_the_rest_has_none" {
  assert {
    condition     = [for field in google_firestore_index.active.fields : field.field_path] == ["is_active", "id"]
    error_message = "Active keys cannot be listed."
  }
  assert {
    condition     = length(setintersection(keys(google_firestore_field.unindexed), ["id", "is_active", "updated_at", "deleted_at"])) == 0
    error_message = "A field that is asked for has no index: the change feed goes by updated_at."
  }
  assert {
    condition     = contains(keys(google_firestore_field.unindexed), "sealed")
    error_message = "Envelopes are indexed."
  }
}

run "roles_are_narrow" {
  assert {
    condition = toset([for one in google_project_iam_member.this : one.role]) == toset([
      "roles/cloudsql.instanceUser",
      "roles/datastore.user",
      "roles/datastore.viewer",
      "roles/logging.logWriter",
      "roles/monitoring.metricWriter",
    ])
    error_message = "A role in the project that is not on the list."
  }
  assert {
    condition     = alltrue([for name, one in google_project_iam_member.this : length(one.condition) == 1 || contains(["edge_writes_logs", "edge_writes_metrics"], name)])
    error_message = "A role reaches further than one database."
  }
  assert {
    condition     = length([for one in local.roles : one if one.member == "migrate"]) == 0
    error_message = "The migration job has a role in the project."
  }
  assert {
    condition     = alltrue([for one in google_secret_manager_secret_iam_member.reader : one.role == "roles/secretmanager.secretAccessor"])
    error_message = "An account can do more with a secret than read it."
  }
  assert {
    condition = toset(keys(local.secret_readers)) == toset([
      "edge_encryption", "issue_encryption", "migrate_database",
      "edge_config", "issuer_config", "migrate_config",
      "edge_ca", "issuer_ca", "migrate_ca",
    ])
    error_message = "Somebody else reads a secret: the edge not the database's password, the migration not the keyring's."
  }
  assert {
    condition     = google_artifact_registry_repository_iam_member.edge[0].repository == "edge" && google_artifact_registry_repository_iam_member.edge[0].role == "roles/artifactregistry.reader"
    error_message = "The machines pull from more than the image's repository."
  }
}

run "machines_are_closed_and_their_journals_stay" {
  assert {
    condition     = alltrue([for interface in google_compute_region_instance_template.edge[0].network_interface : length(interface.access_config) == 0])
    error_message = "A machine has an address on the internet."
  }
  assert {
    condition     = toset(keys(google_compute_firewall.open)) == toset(["health", "proxies"])
    error_message = "Something else is open."
  }
  assert {
    condition     = google_compute_firewall.open["proxies"].source_ranges == toset(["10.20.1.0/24"]) && google_compute_firewall.open["health"].source_ranges == toset(["35.191.0.0/16", "130.211.0.0/22"])
    error_message = "A port is open to more than load balancer and health checks."
  }
  assert {
    condition     = alltrue([for one in google_compute_firewall.open : one.target_service_accounts == toset([google_service_account.edge.email])])
    error_message = "A port of other machines is opened."
  }
  assert {
    condition     = one(google_compute_region_instance_group_manager.edge[0].stateful_disk).device_name == "journal" && one(google_compute_region_instance_group_manager.edge[0].stateful_disk).delete_rule == "NEVER"
    error_message = "A journal goes with its machine."
  }
  assert {
    condition     = [for disk in google_compute_region_instance_template.edge[0].disk : disk.auto_delete if disk.device_name == "journal"] == [false]
    error_message = "The journal's disk is deleted with its machine."
  }
  assert {
    condition     = google_compute_region_instance_group_manager.edge[0].update_policy[0].type == "OPPORTUNISTIC" && google_compute_region_instance_group_manager.edge[0].update_policy[0].replacement_method == "RECREATE"
    error_message = "An apply takes machines out by itself."
  }
  assert {
    condition     = google_compute_health_check.alive[0].http_health_check[0].request_path == "/healthz" && google_compute_health_check.alive[0].http_health_check[0].port == 9902
    error_message = "An edge that waits for a store is made anew."
  }
  assert {
    condition     = google_compute_region_health_check.ready[0].http_health_check[0].request_path == "/readyz" && google_compute_region_health_check.ready[0].http_health_check[0].port == 9902
    error_message = "An edge that drains is sent requests."
  }
  assert {
    condition     = strcontains(google_compute_region_instance_template.edge[0].metadata["user-data"], "--read-only --cap-drop=ALL") && strcontains(google_compute_region_instance_template.edge[0].metadata["user-data"], "--user=65532:65532")
    error_message = "The container may do more than it has to."
  }
  assert {
    condition     = strcontains(google_compute_region_instance_template.edge[0].metadata["user-data"], "projects/1234/secrets/mock/versions/7 /run/secrets/encryption/password")
    error_message = "The password is not fetched by version."
  }
}

run "a_machine_holds_both_passwords_while_a_theft_is_answered" {
  variables {
    encryption_passwords = { made = 2, used = 1, both = true }
  }
  assert {
    condition     = local.edge_environment.PQ_ENCRYPTION_NEW_PASSWORD_FILE == "/run/secrets/next/password" && local.edge_environment.PQ_ENCRYPTION_PASSWORD_FILE == "/run/secrets/encryption/password"
    error_message = "It does not look for both."
  }
  assert {
    condition     = local.fetched["next"].path == "/run/secrets/next/password"
    error_message = "The newest password is not fetched."
  }
}

run "and_one_otherwise" {
  variables {
    encryption_passwords = { made = 2, used = 2 }
  }
  assert {
    condition     = !contains(keys(local.edge_environment), "PQ_ENCRYPTION_NEW_PASSWORD_FILE") && !contains(keys(local.fetched), "next")
    error_message = "It holds a password that it does not need."
  }
}

run "user_data_is_what_the_machine_understands" {
  assert {
    condition     = startswith(local.user_data, "#cloud-config\n") && length(yamldecode(local.user_data).write_files) == 6
    error_message = "It is no cloud-config."
  }
  assert {
    condition     = yamldecode(local.collector_config).receivers.prometheus.config.scrape_configs[0].static_configs[0].targets == ["127.0.0.1:9902"]
    error_message = "The collector asks somewhere else."
  }
  assert {
    condition     = yamldecode(local.collector_config).exporters == { googlemanagedprometheus = {} }
    error_message = "The metrics go somewhere else."
  }
}

run "the_load_balancer_speaks_tls_and_tells_the_client" {
  assert {
    condition     = google_compute_forwarding_rule.edge[0].port_range == "443" && google_compute_forwarding_rule.edge[0].load_balancing_scheme == "EXTERNAL_MANAGED"
    error_message = "Something else than TLS is offered."
  }
  assert {
    condition     = google_compute_region_ssl_policy.edge[0].min_tls_version == "TLS_1_2" && google_compute_region_ssl_policy.edge[0].profile == "RESTRICTED"
    error_message = "Old ciphers are accepted."
  }
  assert {
    condition     = local.edge_environment.CYPHERON_EDGE__SERVER__TRUSTED_PROXIES == "10.20.1.0/24" && local.edge_environment.CYPHERON_EDGE__SERVER__TRUSTED_HOPS == "2"
    error_message = "The edge takes a wrong address for the client's: the load balancer writes client and itself."
  }
  assert {
    condition     = local.edge_environment.CYPHERON_EDGE__SERVER__IDLE_TIMEOUT == "620s"
    error_message = "The edge closes connections that the load balancer's proxies still use."
  }
}

run "a_passthrough_load_balancer_is_inside_and_changes_nothing" {
  variables {
    load_balancer = "passthrough"
    certificates  = []
  }
  assert {
    condition     = google_compute_forwarding_rule.edge[0].load_balancing_scheme == "INTERNAL" && google_compute_forwarding_rule.edge[0].ports == toset(["8080"])
    error_message = "It is not inside."
  }
  assert {
    condition     = google_compute_region_backend_service.edge[0].protocol == "TCP" && google_compute_region_backend_service.edge[0].load_balancing_scheme == "INTERNAL"
    error_message = "It looks into the connection."
  }
  assert {
    condition     = local.edge_environment.CYPHERON_EDGE__SERVER__TRUSTED_PROXIES == "[]"
    error_message = "The edge believes X-Forwarded-For of its clients."
  }
  assert {
    condition     = google_compute_firewall.open["clients"].source_ranges == toset(["10.0.0.0/8"]) && length(google_compute_region_target_https_proxy.edge) == 0
    error_message = "It is open to others."
  }
}

run "jobs_are_the_same_image_each_under_its_own_account" {
  assert {
    condition     = toset(keys(google_cloud_run_v2_job.this)) == toset(["migrate", "keys", "sync-usage"])
    error_message = "A job is missing."
  }
  assert {
    condition     = alltrue([for job in google_cloud_run_v2_job.this : job.template[0].template[0].containers[0].image == var.image && job.template[0].template[0].max_retries == 0])
    error_message = "A job runs another image, or twice."
  }
  assert {
    condition     = toset([for mount in google_cloud_run_v2_job.this["migrate"].template[0].template[0].containers[0].volume_mounts : mount.name]) == toset(["config", "ca", "owner"])
    error_message = "The migration has a secret it has no use for."
  }
  assert {
    condition     = alltrue([for name in ["keys", "sync-usage"] : !contains([for mount in google_cloud_run_v2_job.this[name].template[0].template[0].containers[0].volume_mounts : mount.name], "owner")])
    error_message = "Issuing has the owner's password."
  }
  assert {
    condition     = [for volume in google_cloud_run_v2_job.this["keys"].template[0].template[0].volumes : volume.gcs[0].bucket if volume.name == "tokens"] == ["my-project-1234-cypheron-edge-tokens"]
    error_message = "A token has nowhere to go but a log."
  }
  assert {
    condition     = google_storage_bucket.tokens.public_access_prevention == "enforced" && one(one(google_storage_bucket.tokens.lifecycle_rule).condition).age == 1 && one(google_storage_bucket.tokens.soft_delete_policy).retention_duration_seconds == 0
    error_message = "Tokens stay, or are public."
  }
  assert {
    condition = toset(keys(google_cloud_run_v2_job_iam_member.operator)) == toset([
      for what in ["migrate roles/run.jobsExecutor", "migrate roles/run.viewer", "keys roles/run.jobsExecutorWithOverrides", "keys roles/run.viewer"] : "${what} group:operators@example.com"
    ])
    error_message = "Operators may do more than run the jobs, or less."
  }
  assert {
    condition     = google_cloud_run_v2_job_iam_member.scheduler[0].role == "roles/run.jobsExecutor"
    error_message = "The clock can run commands of its own choice."
  }
}

run "somebody_is_told" {
  assert {
    condition = length(setsubtract([
      "certificate-expiring", "change-feed-down", "edges-missing", "journal-backlog", "record-tampered", "refusal-spike",
      "refusing-for-our-own-faults", "slow", "usage-lost", "upstream-failing",
    ], keys(google_monitoring_alert_policy.edge))) == 0
    error_message = "One of the edge's signals has no alert."
  }
  assert {
    condition     = toset(keys(google_monitoring_alert_policy.database)) == toset(["database-cpu", "database-disk", "database-connections", "database-down"])
    error_message = "The database has no alert for CPU, disk, connections or being down."
  }
  assert {
    condition     = alltrue([for policy in concat(values(google_monitoring_alert_policy.edge), values(google_monitoring_alert_policy.database)) : policy.notification_channels == tolist(["projects/my-project-1234/notificationChannels/1"])])
    error_message = "An alert reaches nobody."
  }
  assert {
    condition     = google_monitoring_alert_policy.database["database-connections"].conditions[0].condition_threshold[0].threshold_value == 81
    error_message = "The alert for connections does not leave the ten that are kept."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.edge["journal-backlog"].conditions[0].condition_prometheus_query_language[0].query, "> 805306368")
    error_message = "The backlog's alert is not a tenth of the journal."
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.edge.dashboard_json).mosaicLayout.tiles) == 10
    error_message = "The dashboard is empty."
  }
}

run "a_second_password_is_made_before_it_is_used" {
  variables {
    encryption_passwords = { made = 2, used = 1 }
  }
  assert {
    condition     = length(google_secret_manager_secret_version.encryption_password) == 2
    error_message = "There is no second password."
  }
  assert {
    condition     = alltrue([for version in google_secret_manager_secret_version.encryption_password : version.secret_data_wo_version == "1"])
    error_message = "A password that was made is made anew."
  }
}

run "what_has_to_be_torn_down_can_be" {
  variables {
    deletion_protection = false
  }
  assert {
    condition     = !google_sql_database_instance.usage.deletion_protection && !google_sql_database_instance.usage.settings[0].deletion_protection_enabled && google_firestore_database.keys.delete_protection_state == "DELETE_PROTECTION_DISABLED" && !google_secret_manager_secret.encryption_password.deletion_protection
    error_message = "Something stays protected."
  }
}
