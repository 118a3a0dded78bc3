//! Data is never left behind without a word: what a new version mounts otherwise is refused until belay.yml says what is
//! meant, and what nobody names is carried along.

use serde_json::json;

use crate::lab::{App, ROOT, Run};

on_every_host!(
    by turns:
    a_renamed_volume_is_refused_until_belay_yml_says_what_is_meant,
    data_of_an_images_own_volume_is_carried_along_and_saved,
    data_is_copied_to_its_new_place_or_nothing_changes;
    one run in four:
    another_place_for_the_same_volume_is_refused,
    another_project_or_folder_is_refused_while_the_first_one_has_the_data,
    a_definition_that_docker_cannot_change_is_refused;
);

const IMAGE_VOLUME: &str = "services:\n  web:\n    build: .\n    ports: [\"8080:8080\"]\n";

fn note(app: &App) -> String {
    app.http("GET", "/data", "").expect("an answer").1
}

fn served_with_data(app: &mut App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.http("POST", "/data", "precious").expect("an answer");
}

fn change(app: &App, file: &str, from: &str, to: &str) {
    app.edit(file, |text| {
        assert!(text.contains(from), "{from}: {text}");
        text.replace(from, to)
    });
}

fn try_version(app: &mut App, tag: &str) -> Run {
    app.release(tag, "");
    app.push(tag)
}

fn doctor(app: &App) -> String {
    let looked = app.belay(&["doctor"]);
    String::from_utf8_lossy(&looked.stdout).into_owned()
}

fn a_renamed_volume_is_refused_until_belay_yml_says_what_is_meant(mut app: App) {
    served_with_data(&mut app);
    let project = app.host.project;
    change(&app, "docker-compose.yml", "- data:/data", "- store:/data");
    change(&app, "docker-compose.yml", "\n  data:\n", "\n  store:\n");
    let said = doctor(&app);
    let lost = format!(
        "web has the volume {project}_store at /data, where it had the volume {project}_data"
    );
    assert!(said.contains("BAD") && said.contains(&lost), "{said}");
    let refused = try_version(&mut app, "v1.1.0");
    refused
        .ends("refused", "v1.0.0")
        .says(&lost)
        .says("data: {data: copied}")
        .says("data: {data: moved}")
        .says("data: {data: left}");
    assert_eq!(note(&app), "precious");
    let planned = app.belay(&["plan", "v1.1.0"]);
    let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(planned.contains("Would refuse"), "{planned}");
    assert!(planned.contains(&lost), "{planned}");

    app.edit("belay.yml", |text| format!("{text}data: {{data: left}}\n"));
    try_version(&mut app, "v1.2.0")
        .ends("deployed", "v1.2.0")
        .says("belay.yml says that it is left");
    assert_ne!(note(&app), "precious");
    app.http("POST", "/data", "newer").expect("an answer");
    // The line has done its work, and would hide the next mistake.
    try_version(&mut app, "v1.3.0")
        .ends("deployed", "v1.3.0")
        .says("take the line out");
    assert_eq!(note(&app), "newer");
    let said = doctor(&app);
    let unused = format!("no service uses the volume {project}_data");
    assert!(said.contains(&unused), "{said}");

    // A person who goes back is told, and gets what there was.
    app.rollback("v1.0.0")
        .ends("deployed", "v1.0.0")
        .says("has its data elsewhere than v1.3.0");
    assert_eq!(note(&app), "precious");
}

fn another_place_for_the_same_volume_is_refused(mut app: App) {
    served_with_data(&mut app);
    change(
        &app,
        "docker-compose.yml",
        "- data:/data",
        "- data:/var/lib/data",
    );
    try_version(&mut app, "v1.1.0")
        .ends("refused", "v1.0.0")
        .says("at /var/lib/data, and nothing where it was, at /data");
    assert_eq!(note(&app), "precious");
    change(
        &app,
        "docker-compose.yml",
        "- data:/var/lib/data",
        "- ./data:/data",
    );
    try_version(&mut app, "v1.2.0")
        .ends("refused", "v1.0.0")
        .says(&format!("web has {ROOT}/data at /data"));
    // Written otherwise, and the same.
    let long = "- {type: volume, source: data, target: /data/}";
    change(&app, "docker-compose.yml", "- ./data:/data", long);
    try_version(&mut app, "v1.3.0").ends("deployed", "v1.3.0");
    assert_eq!(note(&app), "precious");
}

fn another_project_or_folder_is_refused_while_the_first_one_has_the_data(mut app: App) {
    served_with_data(&mut app);
    let project = app.host.project;
    app.host
        .run("rm -rf /opt/elsewhere && install -d -o deploy -g deploy /opt/elsewhere");
    change(&app, "belay.yml", ROOT, "/opt/elsewhere\napp: ntplatform");
    change(
        &app,
        "belay.yml",
        &format!("project: {project}"),
        "project: elsewhere",
    );
    app.release("v1.1.0", "");
    let refused = app.push("v1.1.0");
    refused
        .says(&format!("the project {project} in {ROOT}"))
        .says(&format!(
            "web has the volume elsewhere_data at /data, where it had the volume {project}_data"
        ));
    assert_eq!(refused.output("outcome"), "refused");
    assert_eq!(note(&app), "precious");
    let names = app.host.run("docker volume ls -q");
    assert!(!names.contains("elsewhere"), "{names}");
    app.edit("belay.yml", |text| format!("{text}data: {{data: left}}\n"));
    app.release("v1.2.0", "");
    let planned = app.belay(&["plan", "v1.2.0"]);
    let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(planned.contains("Would deploy"), "{planned}");
    app.host.run("rm -rf /opt/elsewhere");
}

fn a_definition_that_docker_cannot_change_is_refused(mut app: App) {
    served_with_data(&mut app);
    let project = app.host.project;
    let plain = std::fs::read_to_string(app.repository().join("docker-compose.yml"));
    let plain = plain.expect("the file is there");
    app.write(
        "docker-compose.yml",
        &plain.replace(
            "\n  data:\n",
            "\n  data:\n    driver_opts: {type: none, o: bind, device: /srv}\n",
        ),
    );
    try_version(&mut app, "v1.1.0")
        .ends("refused", "v1.0.0")
        .says(&format!(
            "the volume {project}_data is defined otherwise than it was made"
        ))
        .says("driver_opts.device: nothing there, /srv in the file");
    let subnet = "networks:\n  default:\n    ipam: {config: [{subnet: 10.211.0.0/24}]}\n";
    app.write("docker-compose.yml", &format!("{plain}\n{subnet}"));
    try_version(&mut app, "v1.2.0")
        .ends("refused", "v1.0.0")
        .says("the network default is defined otherwise than in v1.0.0 (ipam)");
    assert_eq!(note(&app), "precious");
}

fn data_of_an_images_own_volume_is_carried_along_and_saved(mut app: App) {
    app.write("docker-compose.yml", IMAGE_VOLUME);
    change(&app, "Dockerfile", "EXPOSE", "VOLUME /data\nEXPOSE");
    change(
        &app,
        "belay.yml",
        "web: {strategy: start-first}",
        "web: {strategy: auto}",
    );
    app.release("v1.0.0", "");
    app.push("v1.0.0")
        .ends("deployed", "v1.0.0")
        .says("web keeps data at /data in a volume without a name");
    app.http("POST", "/data", "precious").expect("an answer");
    let second = try_version(&mut app, "v1.1.0");
    second.ends("deployed", "v1.1.0");
    assert_eq!(note(&app), "precious", "handed on");
    let backup = second.output("backup").to_owned();
    let saved = app.host.run(&format!(
        "cd {ROOT}/backups && tar -xzOf {backup}.tar.gz --wildcards 'data/volumes/*/note'"
    ));
    assert_eq!(saved, "precious");
    app.http("POST", "/data", "spoilt").expect("an answer");
    app.press(json!({"command": "rollback", "restore-data": backup, "dry-run": "true"}))
        .says(", without a name, of web");
    app.press(json!({"command": "rollback", "restore-data": backup, "confirm": "production"}))
        .ends("deployed", "v1.0.0");
    assert_eq!(note(&app), "precious", "put back");

    // Beside the old container there would be another volume.
    change(
        &app,
        "belay.yml",
        "web: {strategy: auto}",
        "web: {strategy: start-first}",
    );
    try_version(&mut app, "v1.2.0")
        .ends("refused", "v1.0.0")
        .says("it keeps data in a volume without a name at /data")
        .says("web-data:/data");
    change(
        &app,
        "belay.yml",
        "web: {strategy: start-first}",
        "web: {strategy: auto}",
    );
    // A name makes a new volume.
    app.write(
        "docker-compose.yml",
        &format!("{IMAGE_VOLUME}    volumes: [\"web-data:/data\"]\nvolumes:\n  web-data:\n"),
    );
    try_version(&mut app, "v1.3.0")
        .ends("refused", "v1.0.0")
        .says("where it had the volume without a name of web at /data")
        .says("data: {\"web:/data\": copied}");
    assert_eq!(note(&app), "precious");
    app.edit("belay.yml", |text| {
        format!("{text}data: {{\"web:/data\": copied}}\n")
    });
    try_version(&mut app, "v1.4.0").ends("deployed", "v1.4.0");
    assert_eq!(note(&app), "precious", "copied");
}

/// Root's own look into a volume.
fn in_volume(app: &App, key: &str, script: &str) -> String {
    let project = app.host.project;
    app.host.run(&format!(
        "cd $(docker volume inspect --format '{{{{.Mountpoint}}}}' {project}_{key}) && {script}"
    ))
}

fn data_is_copied_to_its_new_place_or_nothing_changes(mut app: App) {
    let project = app.host.project;
    app.edit("belay.yml", |text| {
        format!("{text}backup: {{data: none}}\n")
    });
    served_with_data(&mut app);
    // Owners, modes and several names of one file go along, too.
    in_volume(
        &app,
        "data",
        "mkdir -m 700 sub && echo rows >sub/a && ln sub/a sub/b && ln -s a sub/c && chown -R 70:70 sub",
    );
    change(&app, "docker-compose.yml", "- data:/data", "- store:/data");
    change(&app, "docker-compose.yml", "\n  data:\n", "\n  store:\n");
    app.edit("belay.yml", |text| {
        format!("{text}data: {{data: copied}}\n")
    });
    let before = app.belongings();

    // Counted as large as it says.
    in_volume(&app, "data", "truncate -s 10T sparse");
    try_version(&mut app, "v1.1.0")
        .ends("refused", "v1.0.0")
        .says(&format!("not enough disk to copy volume {project}_data"));
    in_volume(&app, "data", "rm sparse");

    let labels = format!(
        "--label com.docker.compose.project={project} --label com.docker.compose.volume=store"
    );
    app.host
        .run(&format!("docker volume create {labels} {project}_store"));
    in_volume(&app, "store", "echo mine >other");
    let taken = try_version(&mut app, "v1.2.0");
    taken
        .ends("refused", "v1.0.0")
        .says("which is not empty: other is there")
        .says(&format!("docker volume rm {project}_store"));
    assert_eq!(in_volume(&app, "store", "cat other"), "mine");
    app.host.run(&format!("docker volume rm {project}_store"));

    app.release("v1.3.0", "status500");
    app.push("v1.3.0").ends("rolled-back", "v1.0.0");
    assert_eq!(note(&app), "precious");
    assert_eq!(app.belongings().len(), before.len(), "{before:?}");
    assert!(!app.belongings().join(" ").contains("store"));

    app.release("v1.4.0", "");
    let planned = app.belay(&["plan", "v1.4.0"]);
    let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(
        planned.contains("from when its data is copied"),
        "{planned}"
    );
    let deployed = app.push("v1.4.0");
    deployed
        .ends("deployed", "v1.4.0")
        .says("the old one stays as it was");
    assert!(
        deployed.summary.contains("was copied to"),
        "{}",
        deployed.summary
    );
    assert_eq!(note(&app), "precious");
    let looks = "stat -c '%n %a %u:%g %h' . sub sub/*; cat sub/b; readlink sub/c";
    assert_eq!(
        in_volume(&app, "store", looks),
        in_volume(&app, "data", looks)
    );
    app.http("POST", "/data", "newer").expect("an answer");
    assert_eq!(in_volume(&app, "data", "cat note"), "precious");
    app.rollback("v1.0.0").ends("deployed", "v1.0.0");
    assert_eq!(note(&app), "precious");
    assert_eq!(in_volume(&app, "store", "cat note"), "newer");
}
