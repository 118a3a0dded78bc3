//! The user's own Compose features survive: one-shot services, env_file, profiles, secrets, extends.

use crate::lab::{App, ROOT};

on_every_host!(
    one run in four:
    a_migration_runs_once_for_each_deployment,
    data_beside_the_folder_stays_with_the_application;
);

const COMPOSE: &str = r#"
services:
  web:
    extends: {file: common.yml, service: base}
    ports: ["8080:8080"]
    env_file: [settings.env]
    secrets: [token]
    depends_on:
      migrate: {condition: service_completed_successfully}
  migrate:
    extends: {file: common.yml, service: base}
    command: ["--migrate"]
  tools:
    extends: {file: common.yml, service: base}
    profiles: [debug]
    command: ["--worker"]
secrets:
  token: {file: ./token.txt}
volumes:
  data:
"#;
const COMMON: &str = "services:\n  base:\n    build: .\n    volumes: [\"data:/data\"]\n";

/// Paths that leave the folder: what Compose makes of them when it is run there.
const BESIDE: &str = r#"
services:
  web:
    build: .
    ports: ["8080:8080"]
    volumes: ["../shared:/data", "${PWD}/conf:/conf"]
    depends_on:
      migrate: {condition: service_completed_successfully}
  migrate:
    build: .
    command: ["--migrate"]
    volumes: ["../shared:/data"]
"#;

fn data_beside_the_folder_stays_with_the_application(mut app: App) {
    app.host.run("rm -rf /opt/shared");
    app.write("docker-compose.yml", BESIDE);
    for (number, tag) in ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0"]
        .iter()
        .enumerate()
    {
        app.release(tag, "");
        app.push(tag).ends("deployed", tag);
        let count = app.host.run("cat /opt/shared/migrations");
        assert_eq!(count, (number + 1).to_string(), "{tag}");
    }
    let mounted = app.host.run(&format!(
        "docker inspect -f '{{{{range .Mounts}}}}{{{{.Source}}}} {{{{end}}}}' \
         $(docker ps -q --filter label=com.docker.compose.project={} --filter label=com.docker.compose.service=web)",
        app.host.project
    ));
    let mut mounted: Vec<&str> = mounted.split_whitespace().collect();
    mounted.sort_unstable();
    assert_eq!(mounted, [&format!("{ROOT}/conf"), "/opt/shared"]);
    let saved = app.host.run(&format!(
        "cd {ROOT}/backups && tar -xzOf $(ls backup_*.tar.gz | tail -n 1) data/binds/opt/shared/migrations"
    ));
    assert_eq!(saved, "4", "the last backup holds what served before");

    app.edit("docker-compose.yml", |text| {
        text.replace("    ports:", "    env_file: [missing.env]\n    ports:")
    });
    app.release("v1.5.0", "");
    let run = app.push("v1.5.0");
    run.says(&format!("{ROOT}/missing.env"));
    assert!(!run.log.contains("/.belay/"), "{}", run.log);
    assert_eq!(app.serving().as_deref(), Some("v1.4.0"));
    app.host.run("rm -rf /opt/shared");
}

fn migrations(app: &App) -> String {
    app.host.run(&format!(
        "cat /var/lib/docker/volumes/{}_data/_data/migrations",
        app.host.project
    ))
}

fn a_migration_runs_once_for_each_deployment(mut app: App) {
    app.write("docker-compose.yml", COMPOSE);
    app.write("common.yml", COMMON);
    app.write("settings.env", "APP_SERVICE=from-the-env-file\n");
    app.write("token.txt", "a token\n");
    app.edit("belay.yml", |text| {
        format!("{text}files: [common.yml, settings.env, token.txt]\n")
    });
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    assert_eq!(migrations(&app), "1");
    let (_, status) = app.http("GET", "/api/status", "").expect("an answer");
    assert!(status.contains("from-the-env-file"), "{status}");
    assert!(
        !app.belongings().iter().any(|b| b.contains("tools")),
        "{:?}",
        app.belongings()
    );
    // Compose 1.x and 2 name containers differently.
    let mounted = app.host.run(&format!(
        "docker inspect -f '{{{{json .Mounts}}}}' \
         $(docker ps -q --filter label=com.docker.compose.project={} --filter label=com.docker.compose.service=web)",
        app.host.project
    ));
    assert!(mounted.contains("/run/secrets/token"), "{mounted}");

    app.release("v1.1.0", "");
    app.push("v1.1.0").ends("deployed", "v1.1.0");
    assert_eq!(migrations(&app), "2");
    app.release_with("v1.2.0", &[("APP_MIGRATE_EXIT", "3")]);
    app.push("v1.2.0").ends("rolled-back", "v1.1.0");
    assert_eq!(migrations(&app), "3");
    app.rollback("").ends("deployed", "v1.0.0");
    assert_eq!(migrations(&app), "3", "a rollback leaves data as it is");
    app.host.run(&format!("test -e {ROOT}/settings.env"));
}
