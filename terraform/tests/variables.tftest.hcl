# What would not work, or not safely, is refused before anything is made.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project            = "my-project-1234"
  region             = "europe-west1"
  firestore_location = "europe-west1"
  image              = "europe-west1-docker.pkg.dev/my-project-1234/edge/cypheron-edge@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  certificates       = ["projects/my-project-1234/locations/europe-west1/certificates/api"]
  edge_config        = "[[routes]]\nname = \"all\"\nupstream = \"app\"\n"
}

run "an_image_that_can_be_exchanged_under_its_tag" {
  command = plan
  variables {
    image = "europe-west1-docker.pkg.dev/my-project-1234/edge/cypheron-edge:latest"
  }
  expect_failures = [var.image]
}

run "an_image_from_elsewhere" {
  command = plan
  variables {
    image = "docker.io/somebody/cypheron-edge@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
  expect_failures = [var.image]
}

run "more_connections_than_the_database_has" {
  command = plan
  variables {
    max_instances             = 5
    edge_database_connections = 20
    database_max_connections  = 109
  }
  expect_failures = [google_sql_database_instance.usage]
}

run "as_many_connections_as_it_has" {
  command = plan
  variables {
    max_instances             = 5
    edge_database_connections = 20
    database_max_connections  = 110
  }
}

run "a_single_connection" {
  command = plan
  variables {
    edge_database_connections = 1
  }
  expect_failures = [var.edge_database_connections]
}

run "both_passwords_where_there_is_one" {
  command = plan
  variables {
    encryption_passwords = { made = 2, used = 2, both = true }
  }
  expect_failures = [var.encryption_passwords]
}

run "no_edges" {
  command = plan
  variables {
    max_instances = 0
  }
  expect_failures = [var.max_instances]
}

run "scaled_to_zero" {
  command = plan
  variables {
    min_instances = 0
  }
  expect_failures = [var.min_instances]
}

run "more_at_least_than_at_most" {
  command = plan
  variables {
    min_instances = 4
  }
  expect_failures = [var.min_instances]
}

run "keys_in_clear_over_the_internet" {
  command = plan
  variables {
    certificates = []
  }
  expect_failures = [var.certificates]
}

run "open_to_all_without_tls" {
  command = plan
  variables {
    load_balancer = "passthrough"
    client_ranges = ["0.0.0.0/0"]
  }
  expect_failures = [var.client_ranges]
}

run "operators_who_could_be_anybody" {
  command = plan
  variables {
    operators = ["allUsers"]
  }
  expect_failures = [var.operators]
}

run "a_password_that_was_not_made" {
  command = plan
  variables {
    encryption_passwords = { made = 1, used = 2 }
  }
  expect_failures = [var.encryption_passwords]
}

run "an_edge_with_nothing_to_do" {
  command = plan
  variables {
    edge_config = ""
  }
  expect_failures = [var.edge_config]
}

run "unknown_names" {
  command = plan
  variables {
    platform      = "kubernetes"
    load_balancer = "none"
    region        = "europe-west1-b"
    project       = "X"
    name          = "Edge"
  }
  expect_failures = [var.platform, var.load_balancer, var.region, var.project, var.name]
}

run "numbers_out_of_range" {
  command = plan
  variables {
    journal_disk_gib          = 1
    backup_days               = 1
    database_max_connections  = 10
    database_password_version = 0
    alerts                    = { refused_share = 2 }
  }
  expect_failures = [var.journal_disk_gib, var.backup_days, var.database_max_connections, var.database_password_version, var.alerts]
}

run "networks_that_are_none" {
  command = plan
  variables {
    subnet_range = "10.20.0.0"
    proxy_range  = "all"
  }
  expect_failures = [var.subnet_range, var.proxy_range]
}
