//! What every `Host` promises, checked on both: on the fake one always, on this machine's own Docker when
//! `BELAY_TEST_DOCKER=1` (a few minutes; everything that it makes has a project of its own and is removed).

mod support;

use std::time::Duration;

use belay_agent::host::{Container, ContainerMount, DockerHealth, HostError, RunState};
use belay_model::composition::compose::ComposeFile;
use belay_model::composition::data::DataKind;
use belay_model::composition::image::ImageStore;
use belay_model::judgement::health::{HealthAnswer, VersionCheck};
use belay_model::judgement::measure::Measured;
use belay_model::replacement::gateway::{Admission, Change, Server, fronts, with_gateway};
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_prober::Target;
use serde_json::{Value, json};

use support::fake_host::{Behaviour, VERSION_HEADER};
use support::setups::Setup;

macro_rules! contract {
    ($($fact:ident),* $(,)?) => {
        mod fake {
            $(#[test]
            fn $fact() {
                super::$fact(&super::support::setups::Fake::new().expect("it is always there"));
            })*
        }
        mod real {
            $(#[test]
            fn $fact() {
                // Docker and Compose take minutes for all of it: two runs play it.
                if super::support::sample::has_its_turn(stringify!($fact), 2)
                    && let Some(setup) = super::support::setups::Real::new()
                {
                    super::$fact(&setup);
                }
            })*
        }
    };
}

contract!(
    the_engine_tells_its_versions,
    the_clock_goes_forward_when_one_sleeps,
    a_rendering_has_variables_and_places_filled_in,
    services_of_profiles_that_are_not_active_are_left_out,
    a_file_that_cannot_be_read_is_an_error,
    up_makes_one_container_and_then_leaves_it_alone,
    up_replaces_a_container_whose_definition_changed,
    up_replaces_a_container_whose_image_changed_behind_its_name,
    up_starts_a_stopped_container_again,
    up_starts_no_dependencies,
    up_refuses_what_it_does_not_have,
    an_image_that_cannot_start_fails_and_the_next_one_takes_its_place,
    a_taken_port_fails_and_works_once_it_is_free,
    stopping_and_removing_find_nothing_to_do,
    networks_and_volumes_are_made_by_up_and_go_when_nothing_has_them,
    a_volume_is_told_with_who_has_it,
    the_newest_container_comes_first,
    projects_do_not_see_each_other,
    names_of_images_come_and_go,
    an_image_is_what_it_is_whatever_its_name_and_id,
    an_image_that_a_container_has_keeps_its_last_name,
    images_in_use_are_those_of_all_containers,
    logs_are_the_last_lines,
    an_endpoint_answers_with_its_status_and_version,
    an_endpoint_that_fails_or_is_not_there_is_an_answer,
    a_one_shot_ends_with_its_code_and_runs_again_when_asked_again,
    a_container_that_keeps_ending_is_restarting,
    a_container_that_ends_for_good_has_its_code,
    dockers_own_healthcheck_is_told,
    candidates_are_made_beside_and_start_when_told,
    a_changed_restart_policy_is_no_changed_definition,
    a_program_runs_in_a_container_that_runs,
    a_restart_keeps_the_container_and_starts_it_anew,
    what_is_held_still_runs_on,
    a_port_accepts_connections_or_not,
    a_gateway_holds_lets_in_and_drains,
    a_gateway_that_starts_anew_has_forgotten_everything,
    a_measurement_counts_what_it_asks,
);

fn one_service(image: &str) -> Value {
    json!({"services": {"web": {"image": image, "restart": "unless-stopped"}}})
}

fn publishing(image: &str, port: u16) -> Value {
    json!({"services": {"web": {"image": image, "ports": [format!("127.0.0.1:{port}:8080")]}}})
}

fn is_an_error<T: std::fmt::Debug>(result: Result<T, HostError>) -> String {
    result.expect_err("it cannot be done").to_string()
}

fn the_engine_tells_its_versions(setup: &dyn Setup) {
    let facts = setup.host().engine().expect("there is an engine");
    for version in [&facts.engine, &facts.compose] {
        assert!(
            version.starts_with(|c: char| c.is_ascii_digit()),
            "{facts:?}"
        );
    }
    assert!(["amd64", "arm64"].contains(&facts.architecture.as_str()));
    assert!(setup.host().free_bytes(setup.dir()).expect("known") > 0);
}

fn the_clock_goes_forward_when_one_sleeps(setup: &dyn Setup) {
    let (time, boot) = (setup.host().now(), setup.host().boot_time());
    setup.host().sleep(Duration::from_millis(20));
    let later = setup.host().boot_time();
    assert_eq!(later.boot_id, boot.boot_id);
    assert!(!boot.boot_id.is_empty());
    assert!(later.ms >= boot.ms + 20);
    assert!(setup.host().now() > time);
}

fn a_rendering_has_variables_and_places_filled_in(setup: &dyn Setup) {
    let composition = setup.compose_text(
        "services:\n  web:\n    image: some/web:${BELAY_TAG}\n    volumes: ['./conf:/etc/app:ro']\n",
    );
    let variables = [("BELAY_TAG".to_owned(), "v1.2.0".to_owned())];
    let document = setup.host().render(&composition, &variables).expect("read");
    let web = &document["services"]["web"];
    assert_eq!(web["image"], "some/web:v1.2.0");
    let source = match &web["volumes"][0] {
        Value::String(short) => short.split(':').next().map(str::to_owned),
        long => long["source"].as_str().map(str::to_owned),
    };
    let conf = setup.dir().join("conf").display().to_string();
    assert_eq!(source, Some(conf));
}

fn services_of_profiles_that_are_not_active_are_left_out(setup: &dyn Setup) {
    let composition = setup.compose_text(
        "services:\n  web:\n    image: some/web:v1\n  tools:\n    image: some/web:v1\n    profiles: [debug, more]\n",
    );
    let services = |variables: &[(String, String)]| -> Vec<String> {
        let document = setup.host().render(&composition, variables).expect("read");
        let services = document["services"].as_object().expect("services");
        services.keys().cloned().collect()
    };
    let set = |value: &str| [("COMPOSE_PROFILES".to_owned(), value.to_owned())];
    assert_eq!(services(&[]), ["web"]);
    assert_eq!(services(&set("other")), ["web"]);
    assert_eq!(services(&set("other,debug")), ["tools", "web"]);
    std::fs::write(setup.dir().join(".env"), "COMPOSE_PROFILES=more\n").expect("written");
    assert_eq!(services(&[]), ["tools", "web"]);
}

fn a_file_that_cannot_be_read_is_an_error(setup: &dyn Setup) {
    for text in ["services: [", "services: 3\n", "- a list\n"] {
        let composition = setup.compose_text(text);
        is_an_error(setup.host().render(&composition, &[]));
        is_an_error(setup.host().up(&composition, "web"));
    }
    let mut composition = setup.compose_text("");
    composition.file = setup.dir().join("missing.yml");
    is_an_error(setup.host().render(&composition, &[]));
}

fn up_makes_one_container_and_then_leaves_it_alone(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&one_service(&image));
    assert_eq!(setup.containers(), []);
    setup.host().up(&composition, "web").expect("it runs");
    let made = setup.container("web");
    let id = setup
        .host()
        .image(&image)
        .expect("asked")
        .expect("there")
        .id;
    let expected = Container {
        id: made.id.clone(),
        name: made.name.clone(),
        service: "web".to_owned(),
        image_id: id,
        image,
        state: RunState::Running,
        health: None,
        restarts: 0,
        restart_policy: "unless-stopped".to_owned(),
        working_dir: setup.dir().display().to_string(),
        one_off: false,
        addresses: made.addresses.clone(),
        app: String::new(),
        mounts: vec![],
    };
    assert_eq!(made, expected);
    assert_eq!(made.addresses.len(), 1, "{made:?}");
    assert!(made.name.contains("web"), "{}", made.name);
    setup.host().up(&composition, "web").expect("it runs");
    assert_eq!(setup.container("web"), made);
}

fn up_replaces_a_container_whose_definition_changed(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let mut document = one_service(&image);
    let up = |document: &Value| {
        let composition = setup.compose(document);
        setup.host().up(&composition, "web").expect("it runs");
        setup.container("web")
    };
    let first = up(&document);
    document["services"]["web"]["environment"] = json!({"A": "1"});
    let second = up(&document);
    assert_ne!(second.id, first.id);
    document["services"]["web"]["restart"] = json!("no");
    let third = up(&document);
    assert_ne!(third.id, second.id);
    assert_eq!(third.restart_policy, "no");
    // Another service's definition is none of this one's business.
    document["services"]["other"] = json!({"image": image});
    assert_eq!(up(&document).id, third.id);
}

fn up_replaces_a_container_whose_image_changed_behind_its_name(setup: &dyn Setup) {
    let old = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let new = setup.image("web", "v1.1.0", &Behaviour::Healthy);
    let composition = setup.compose(&one_service(&old));
    setup.host().up(&composition, "web").expect("it runs");
    let first = setup.container("web");
    let id = setup.host().image(&new).expect("asked").expect("there").id;
    let kept = format!("{}kept:1", setup.prefix());
    setup
        .host()
        .name_image(&first.image_id, &kept)
        .expect("named");
    setup.host().name_image(&id, &old).expect("named");
    setup.host().up(&composition, "web").expect("it runs");
    let second = setup.container("web");
    assert_ne!(second.id, first.id);
    assert_eq!(second.image_id, id);
}

fn up_starts_a_stopped_container_again(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let mut document = one_service(&image);
    // The application does not listen to SIGTERM.
    document["services"]["web"]["stop_grace_period"] = json!("0s");
    let composition = setup.compose(&document);
    setup.host().up(&composition, "web").expect("it runs");
    let id = setup.container("web").id;
    setup.host().stop(&id).expect("stopped");
    let stopped = setup.container("web");
    assert!(matches!(stopped.state, RunState::Exited(_)), "{stopped:?}");
    setup.host().up(&composition, "web").expect("it runs");
    let again = setup.container("web");
    assert_eq!((again.id, again.state), (id, RunState::Running));
}

fn up_starts_no_dependencies(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&json!({"services": {
        "db": {"image": image},
        "web": {"image": image, "depends_on": {"db": {"condition": "service_started"}}},
    }}));
    setup.host().up(&composition, "web").expect("it runs");
    let services: Vec<String> = setup.containers().into_iter().map(|c| c.service).collect();
    assert_eq!(services, ["web"]);
}

fn up_refuses_what_it_does_not_have(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&one_service(&image));
    let error = is_an_error(setup.host().up(&composition, "other"));
    assert!(error.contains("other"), "{error}");
    let missing = format!("{}missing:1", setup.prefix());
    let composition = setup.compose(&one_service(&missing));
    is_an_error(setup.host().up(&composition, "web"));
    assert_eq!(setup.containers(), []);
}

fn an_image_that_cannot_start_fails_and_the_next_one_takes_its_place(setup: &dyn Setup) {
    let good = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let bad = setup.image("web", "v1.1.0", &Behaviour::WontStart);
    let composition = setup.compose(&one_service(&good));
    setup.host().up(&composition, "web").expect("it runs");
    let name = setup.container("web").name;
    let composition = setup.compose(&one_service(&bad));
    is_an_error(setup.host().up(&composition, "web"));
    for container in setup.containers() {
        assert_ne!(container.state, RunState::Running, "{container:?}");
    }
    // Tried again, as an engine does that was interrupted.
    is_an_error(setup.host().up(&composition, "web"));
    let composition = setup.compose(&one_service(&good));
    setup.host().up(&composition, "web").expect("it runs");
    let found = setup.container("web");
    assert_eq!((found.image, found.state), (good, RunState::Running));
    assert_eq!(found.name, name);
}

fn a_taken_port_fails_and_works_once_it_is_free(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let port = format!("127.0.0.1:{}:8080", setup.port());
    let service = json!({"image": image, "ports": [port]});
    let mut document = json!({"services": {"a": service, "b": service}});
    let composition = setup.compose(&document);
    setup.host().up(&composition, "b").expect("it runs");
    let error = is_an_error(setup.host().up(&composition, "a"));
    assert!(
        error.contains("already allocated") || error.contains("address already in use"),
        "{error}"
    );
    document["services"]["b"]["ports"] = json!([]);
    let composition = setup.compose(&document);
    setup.host().up(&composition, "b").expect("it runs");
    setup.host().up(&composition, "a").expect("it runs");
    for service in ["a", "b"] {
        assert_eq!(setup.container(service).state, RunState::Running);
    }
}

fn stopping_and_removing_find_nothing_to_do(setup: &dyn Setup) {
    let nobody = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    setup.host().stop(nobody).expect("nothing to do");
    setup
        .host()
        .remove_container(nobody)
        .expect("nothing to do");
    setup
        .host()
        .remove_network("belay-contract-nothing")
        .expect("nothing to do");
    setup
        .host()
        .remove_volume("belay-contract-nothing")
        .expect("nothing to do");
    setup
        .host()
        .forget_image("belay-contract/nothing:1")
        .expect("nothing to do");
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let mut document = one_service(&image);
    document["services"]["web"]["stop_grace_period"] = json!("0s");
    let composition = setup.compose(&document);
    setup.host().up(&composition, "web").expect("it runs");
    let id = setup.container("web").id;
    for _ in 0..2 {
        setup.host().stop(&id).expect("stopped");
    }
    for _ in 0..2 {
        setup.host().remove_container(&id).expect("removed");
        assert_eq!(setup.containers(), []);
    }
}

fn networks_and_volumes_are_made_by_up_and_go_when_nothing_has_them(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&json!({
        "services": {"web": {"image": image, "volumes": ["data:/data"], "stop_grace_period": "0s",
            "networks": ["back"]}},
        "volumes": {"data": null},
        "networks": {"back": null},
    }));
    let (host, project) = (setup.host(), setup.project());
    assert_eq!(
        host.networks(project).expect("listed"),
        Vec::<String>::new()
    );
    assert_eq!(host.volumes(project).expect("listed"), Vec::<String>::new());
    host.up(&composition, "web").expect("it runs");
    let network = format!("{project}_back");
    let volume = format!("{project}_data");
    assert_eq!(
        host.networks(project).expect("listed"),
        std::slice::from_ref(&network)
    );
    assert_eq!(
        host.volumes(project).expect("listed"),
        std::slice::from_ref(&volume)
    );
    is_an_error(host.remove_network(&network));
    is_an_error(host.remove_volume(&volume));
    let id = setup.container("web").id;
    host.stop(&id).expect("stopped");
    is_an_error(host.remove_volume(&volume));
    host.remove_container(&id).expect("removed");
    for _ in 0..2 {
        host.remove_network(&network).expect("removed");
        host.remove_volume(&volume).expect("removed");
    }
    assert_eq!(
        host.networks(project).expect("listed"),
        Vec::<String>::new()
    );
    assert_eq!(host.volumes(project).expect("listed"), Vec::<String>::new());
}

fn a_volume_is_told_with_who_has_it(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&json!({
        "services": {"web": {"image": image, "volumes": ["data:/data"], "stop_grace_period": "0s"}},
        "volumes": {"data": null},
    }));
    let (host, project) = (setup.host(), setup.project());
    let name = format!("{project}_data");
    assert_eq!(host.volume(&name).expect("asked"), None);
    host.up(&composition, "web").expect("it runs");
    let made = host.volume(&name).expect("asked").expect("it is there");
    assert_eq!(
        (made.name.as_str(), made.driver.as_str()),
        (name.as_str(), "local")
    );
    assert!(made.options.is_empty(), "{made:?}");
    let mount = ContainerMount {
        data: DataKind::Volume { name },
        target: "/data".to_owned(),
        is_writable: true,
    };
    assert!(!mount.is_unnamed());
    assert_eq!(setup.container("web").mounts, [mount]);
    let projects = host.projects().expect("listed");
    assert!(
        projects.iter().any(|known| known == project),
        "{projects:?}"
    );
}

fn the_newest_container_comes_first(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let services = json!({"services": {"a": {"image": image}, "b": {"image": image}}});
    let composition = setup.compose(&services);
    for newest in ["b", "a"] {
        setup.host().up(&composition, newest).expect("it runs");
        assert_eq!(setup.containers()[0].service, newest);
    }
}

fn projects_do_not_see_each_other(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&one_service(&image));
    setup.host().up(&composition, "web").expect("it runs");
    let other = format!("{}-other", setup.project());
    assert_eq!(setup.host().containers(&other).expect("listed"), []);
    assert_eq!(
        setup.host().networks(&other).expect("listed"),
        Vec::<String>::new()
    );
}

fn names_of_images_come_and_go(setup: &dyn Setup) {
    let host = setup.host();
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let other = format!("{}other:pin", setup.prefix());
    let id = host.image(&image).expect("asked").expect("there").id;
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(host.image(&other).expect("asked"), None);
    for _ in 0..2 {
        host.name_image(&id, &other).expect("named");
    }
    let by_name = host.image(&other).expect("asked").expect("there");
    assert_eq!(by_name.id, id);
    assert!(by_name.tags.contains(&image) && by_name.tags.contains(&other));
    assert!(!by_name.layers.is_empty());
    let names = host.image_names(&setup.prefix()).expect("listed");
    let mut listed: Vec<&str> = names.iter().map(|n| n.reference.as_str()).collect();
    listed.sort_unstable();
    assert_eq!(listed, [other.as_str(), image.as_str()]);
    assert!(names.iter().all(|n| n.id == id));
    host.forget_image(&image).expect("forgotten");
    assert_eq!(host.image(&image).expect("asked"), None);
    assert!(host.image(&id).expect("asked").is_some());
    for _ in 0..2 {
        host.forget_image(&other).expect("forgotten");
    }
    assert_eq!(host.image(&id).expect("asked"), None);
    is_an_error(host.name_image(&id, &other));
}

fn an_image_is_what_it_is_whatever_its_name_and_id(setup: &dyn Setup) {
    let host = setup.host();
    let store = host.engine().expect("there is an engine").store;
    let named = |reference: &str| host.image(reference).expect("asked").expect("there");
    let first = named(&setup.image("web", "v1.0.0", &Behaviour::Healthy));
    let other = named(&setup.image("web", "v1.1.0", &Behaviour::Healthy));
    let content = |id: &str| host.image_content(id).expect("it is known");
    assert_ne!(content(&first.id).config, content(&other.id).config);
    assert!(content(&first.id).size > 0);
    // Only one kind of engine calls an image by its identity.
    let is_called_so = content(&first.id).config == first.id;
    assert_eq!(is_called_so, store == ImageStore::Graph);
    let again = format!("{}again:v1", setup.prefix());
    host.name_image(&first.id, &again).expect("named");
    assert_eq!(content(&named(&again).id), content(&first.id));
    host.forget_image(&again).expect("forgotten");
    assert!(host.image_content("sha256:0123").is_err());
}

fn an_image_that_a_container_has_keeps_its_last_name(setup: &dyn Setup) {
    let host = setup.host();
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let other = format!("{}other:pin", setup.prefix());
    let mut document = one_service(&image);
    document["services"]["web"]["stop_grace_period"] = json!("0s");
    let composition = setup.compose(&document);
    host.up(&composition, "web").expect("it runs");
    let container = setup.container("web");
    host.name_image(&container.image_id, &other).expect("named");
    host.forget_image(&other).expect("there is another name");
    is_an_error(host.forget_image(&image));
    host.stop(&container.id).expect("stopped");
    is_an_error(host.forget_image(&image));
    host.remove_container(&container.id).expect("removed");
    host.forget_image(&image).expect("forgotten");
}

fn images_in_use_are_those_of_all_containers(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let mut document = one_service(&image);
    document["services"]["web"]["stop_grace_period"] = json!("0s");
    let composition = setup.compose(&document);
    setup.host().up(&composition, "web").expect("it runs");
    let container = setup.container("web");
    let used = || setup.host().images_in_use().expect("listed");
    assert!(used().contains(&container.image_id));
    setup.host().stop(&container.id).expect("stopped");
    assert!(used().contains(&container.image_id));
    setup
        .host()
        .remove_container(&container.id)
        .expect("removed");
    assert!(!used().contains(&container.image_id));
}

fn logs_are_the_last_lines(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&one_service(&image));
    setup.host().up(&composition, "web").expect("it runs");
    let id = setup.container("web").id;
    let logs = |lines| setup.host().logs(&id, lines).expect("read");
    setup.eventually("it says that it listens", &|| {
        logs(100).contains("listening")
    });
    assert!(
        logs(100).contains("server web v1.0.0 starts"),
        "{}",
        logs(100)
    );
    assert_eq!(logs(1).lines().count(), 1);
    assert!(logs(1).contains("listening"));
    setup.host().remove_container(&id).expect("removed");
    is_an_error(setup.host().logs(&id, 1));
}

fn an_endpoint_answers_with_its_status_and_version(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let port = setup.port();
    let composition = setup.compose(&publishing(&image, port));
    setup.host().up(&composition, "web").expect("it runs");
    let url = format!("http://127.0.0.1:{port}/api/status");
    let ask = |version: Option<VersionCheck>| {
        setup
            .host()
            .ask(&url, Duration::from_secs(5), version.as_ref())
    };
    setup.eventually("it answers", &|| ask(None).is_success());
    let told = |version: Option<&str>| HealthAnswer::Status {
        code: 200,
        version: version.map(str::to_owned),
    };
    assert_eq!(ask(None), told(None));
    let header = |name: &str| Some(VersionCheck::Header(name.to_owned()));
    assert_eq!(ask(header(VERSION_HEADER)), told(Some("v1.0.0")));
    assert_eq!(
        ask(header(&VERSION_HEADER.to_lowercase())),
        told(Some("v1.0.0"))
    );
    assert_eq!(ask(header("X-Other")), told(None));
    let json = |field: &str| Some(VersionCheck::Json(field.to_owned()));
    assert_eq!(ask(json("version")), told(Some("v1.0.0")));
    assert_eq!(ask(json("build.version")), told(None));
}

fn an_endpoint_that_fails_or_is_not_there_is_an_answer(setup: &dyn Setup) {
    let ask = |port: u16, path: &str| {
        let url = format!("http://127.0.0.1:{port}{path}");
        setup.host().ask(&url, Duration::from_millis(500), None)
    };
    assert!(matches!(
        ask(setup.port(), "/"),
        HealthAnswer::Unreachable(_)
    ));
    let cases = [
        (Behaviour::Status500, Some(500), 500),
        (Behaviour::PrimaryFails, Some(500), 200),
        (Behaviour::PrimaryHangs, None, 200),
    ];
    for (behaviour, primary, backup) in cases {
        let version = format!("{behaviour:?}").to_lowercase();
        let image = setup.image("web", &version, &behaviour);
        let port = setup.port();
        let composition = setup.compose(&publishing(&image, port));
        setup.host().up(&composition, "web").expect("it runs");
        let status = |code| HealthAnswer::Status {
            code,
            version: None,
        };
        setup.eventually("the backup endpoint answers", &|| {
            ask(port, "/health") == status(backup)
        });
        let answer = ask(port, "/api/status");
        match primary {
            Some(code) => assert_eq!(answer, status(code), "{behaviour:?}"),
            None => assert_eq!(
                answer,
                HealthAnswer::Unreachable("no answer in time".to_owned())
            ),
        }
    }
}

fn a_one_shot_ends_with_its_code_and_runs_again_when_asked_again(setup: &dyn Setup) {
    for code in [0, 3] {
        let image = setup.image("migrate", &format!("v{code}"), &Behaviour::OneShot(code));
        let composition = setup.compose(&json!({"services": {"migrate": {"image": image}}}));
        setup.host().up(&composition, "migrate").expect("it runs");
        let ended = || setup.container("migrate").state == RunState::Exited(code);
        setup.eventually("it ends", &ended);
        let id = setup.container("migrate").id;
        setup
            .host()
            .up(&composition, "migrate")
            .expect("it runs again");
        setup.eventually("it ends again", &ended);
        assert_eq!(setup.container("migrate").id, id);
    }
}

fn a_container_that_keeps_ending_is_restarting(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Exits(1));
    let composition = setup.compose(&one_service(&image));
    setup.host().up(&composition, "web").expect("it is started");
    setup.eventually("it was restarted three times", &|| {
        setup.container("web").restarts >= 3
    });
    setup.eventually("it waits for the next time", &|| {
        setup.container("web").state == RunState::Restarting
    });
    // What keeps ending can be replaced like anything else.
    let good = setup.image("web", "v1.0.1", &Behaviour::Healthy);
    let composition = setup.compose(&one_service(&good));
    setup.host().up(&composition, "web").expect("it runs");
    assert_eq!(setup.container("web").restarts, 0);
}

fn a_container_that_ends_for_good_has_its_code(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Exits(1));
    let composition = setup.compose(&json!({"services": {"web": {"image": image}}}));
    setup.host().up(&composition, "web").expect("it is started");
    setup.eventually("it ends", &|| {
        setup.container("web").state == RunState::Exited(1)
    });
    assert_eq!(setup.container("web").restart_policy, "no");
}

fn dockers_own_healthcheck_is_told(setup: &dyn Setup) {
    let bad = setup.image("web", "v1.0.0", &Behaviour::DockerUnhealthy);
    let composition = setup.compose(&one_service(&bad));
    setup.host().up(&composition, "web").expect("it runs");
    setup.eventually("it is unhealthy, with what the check said", &|| {
        matches!(setup.container("web").health, Some(DockerHealth::Unhealthy(why)) if !why.is_empty())
    });
    assert_eq!(setup.container("web").state, RunState::Running);
    let good = setup.image("web", "v1.1.0", &Behaviour::Healthy);
    let mut document = one_service(&good);
    document["services"]["web"]["healthcheck"] = json!({
        "test": ["CMD", "/app", "--healthcheck", "/health"], "interval": "500ms", "retries": 3});
    let composition = setup.compose(&document);
    setup.host().up(&composition, "web").expect("it runs");
    // On a slow machine it may have made up its mind by now.
    let first = setup.container("web").health;
    assert!(
        matches!(first, Some(DockerHealth::Starting | DockerHealth::Healthy)),
        "{first:?}"
    );
    setup.eventually("it is healthy", &|| {
        setup.container("web").health == Some(DockerHealth::Healthy)
    });
}

fn candidates_are_made_beside_and_start_when_told(setup: &dyn Setup) {
    let (old, new) = (
        setup.image("web", "v1.0.0", &Behaviour::Healthy),
        setup.image("web", "v1.1.0", &Behaviour::Healthy),
    );
    let host = setup.host();
    let composition = setup.compose(&one_service(&old));
    host.up(&composition, "web").expect("it runs");
    let incumbent = setup.container("web");
    let composition = setup.compose(&one_service(&new));
    for _ in 0..2 {
        host.create(&composition, "web", 2).expect("made");
        assert_eq!(setup.containers().len(), 2, "{:#?}", setup.containers());
    }
    let candidate = setup.containers().remove(0);
    assert_eq!(
        (candidate.state, candidate.image.as_str()),
        (RunState::Created, new.as_str())
    );
    assert_eq!(candidate.addresses, Vec::<String>::new());
    assert_eq!(setup.containers()[1], incumbent);
    for _ in 0..2 {
        host.set_restart_policy(&candidate.id, "no")
            .expect("changed");
        host.start(&candidate.id).expect("started");
    }
    let started = setup.containers().remove(0);
    assert_eq!(
        (started.id, started.state),
        (candidate.id.clone(), RunState::Running)
    );
    assert_eq!(started.restart_policy, "no");
    assert_ne!(started.addresses, incumbent.addresses);
    assert_eq!(setup.containers()[1], incumbent);
    // The incumbent goes, and what is left is what `up` wants.
    host.stop_within(&incumbent.id, Duration::ZERO)
        .expect("stopped");
    host.remove_container(&incumbent.id).expect("removed");
    host.up(&composition, "web").expect("it runs");
    assert_eq!(setup.container("web").id, candidate.id);
}

fn a_changed_restart_policy_is_no_changed_definition(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&one_service(&image));
    setup.host().up(&composition, "web").expect("it runs");
    let id = setup.container("web").id;
    for policy in [
        "no",
        "always",
        "on-failure:5",
        "on-failure",
        "unless-stopped",
    ] {
        setup
            .host()
            .set_restart_policy(&id, policy)
            .expect("changed");
        setup.host().up(&composition, "web").expect("it runs");
        let found = setup.container("web");
        assert_eq!(
            (found.id.as_str(), found.restart_policy.as_str()),
            (id.as_str(), policy)
        );
    }
    setup
        .host()
        .set_restart_policy("nobody-of-this-name", "no")
        .expect("nothing to do");
}

fn a_program_runs_in_a_container_that_runs(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&one_service(&image));
    setup.host().up(&composition, "web").expect("it runs");
    let id = setup.container("web").id;
    let run = || {
        let argv = ["/app".to_owned(), "--self-test".to_owned()];
        setup.host().run_in(&id, &argv, Duration::from_secs(20))
    };
    run().expect("it ran");
    setup
        .host()
        .stop_within(&id, Duration::ZERO)
        .expect("stopped");
    is_an_error(run());
}

fn a_restart_keeps_the_container_and_starts_it_anew(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&one_service(&image));
    let host = setup.host();
    host.up(&composition, "web").expect("it runs");
    let before = setup.container("web");
    host.restart(&before.id, Duration::ZERO).expect("restarted");
    let after = setup.container("web");
    assert_eq!((&after.id, after.state), (&before.id, RunState::Running));
    is_an_error(host.restart("0123456789ab", Duration::ZERO));
}

fn what_is_held_still_runs_on(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let composition = setup.compose(&one_service(&image));
    let host = setup.host();
    host.up(&composition, "web").expect("it runs");
    let before = setup.container("web");
    host.unpause(&before.id).expect("it runs already");
    host.unpause("0123456789ab")
        .expect("one that is gone is fine");
    for lets_go in [true, false] {
        setup.pause(&before.id);
        assert_eq!(setup.container("web").state, RunState::Paused);
        match lets_go {
            true => host.unpause(&before.id).expect("it runs on"),
            false => host.up(&composition, "web").expect("it runs on"),
        }
        let after = setup.container("web");
        assert_eq!((&after.id, after.state), (&before.id, RunState::Running));
    }
}

fn a_port_accepts_connections_or_not(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let port = setup.port();
    let host = setup.host();
    let composition = setup.compose(&publishing(&image, port));
    host.up(&composition, "web").expect("it runs");
    let address = setup.probed_address();
    let port = if address == "127.0.0.1" { port } else { 8080 };
    let connects = || host.connects(&address, port, Duration::from_secs(1));
    setup.eventually("it listens", &connects);
    let id = setup.container("web").id;
    host.stop_within(&id, Duration::ZERO).expect("stopped");
    assert!(!connects());
    assert!(!host.connects("no address", 80, Duration::from_secs(1)));
}

/// A service behind a gateway, and the gateway's container.
struct Fronted {
    port: u16,
    gateway: String,
}

impl Fronted {
    fn compose(setup: &dyn Setup, image: &str, port: u16) -> belay_agent::host::Composition {
        let file = ComposeFile::new(publishing(image, port)).expect("a file");
        let fronts = fronts(&file, &["web".to_owned()], &[]);
        setup.compose(with_gateway(&file, &fronts, &setup.gateway_image()).document())
    }

    fn start(setup: &dyn Setup, image: &str) -> Fronted {
        let port = setup.port();
        let composition = Fronted::compose(setup, image, port);
        for service in ["web", GATEWAY_SERVICE] {
            setup.host().up(&composition, service).expect("it runs");
        }
        let gateway = setup.container(GATEWAY_SERVICE).id;
        let fronted = Fronted { port, gateway };
        setup.eventually("the gateway serves", &|| fronted.version(setup).is_some());
        fronted
    }

    fn servers(&self, setup: &dyn Setup) -> Vec<Server> {
        setup
            .host()
            .gateway_servers(&self.gateway)
            .expect("it tells")
    }

    fn version(&self, setup: &dyn Setup) -> Option<String> {
        let url = format!("http://127.0.0.1:{}/version", self.port);
        let check = VersionCheck::Header(VERSION_HEADER.to_owned());
        match setup.host().ask(&url, Duration::from_secs(5), Some(&check)) {
            HealthAnswer::Status { code: 200, version } => version,
            _ => None,
        }
    }

    fn set(&self, setup: &dyn Setup, address: Option<&str>, to: Admission) {
        let changes: Vec<Change> = self
            .servers(setup)
            .iter()
            .filter(|s| s.address.as_deref() == address)
            .map(|s| Change {
                backend: s.backend.clone(),
                server: s.name.clone(),
                to,
            })
            .collect();
        setup
            .host()
            .change_gateway(&self.gateway, &changes)
            .expect("changed");
    }
}

fn a_gateway_holds_lets_in_and_drains(setup: &dyn Setup) {
    let (old, new) = (
        setup.image("web", "v1.0.0", &Behaviour::Healthy),
        setup.image("web", "v1.1.0", &Behaviour::Healthy),
    );
    let host = setup.host();
    let fronted = Fronted::start(setup, &old);
    let incumbent = setup.container("web");
    let servers = fronted.servers(setup);
    assert_eq!(servers.len(), 20, "{servers:?}");
    assert!(servers.iter().all(|s| s.admission == Admission::Ready));
    assert_eq!(servers.iter().filter(|s| s.address.is_some()).count(), 1);
    fronted.set(setup, None, Admission::Maintenance);
    let composition = Fronted::compose(setup, &new, fronted.port);
    host.create(&composition, "web", 2).expect("made");
    let of_web = || {
        let mut containers = setup.containers();
        containers.retain(|c| c.service == "web" && c.id != incumbent.id);
        containers.remove(0)
    };
    host.start(&of_web().id).expect("started");
    let address = of_web().addresses.remove(0);
    let held = || {
        let servers = fronted.servers(setup);
        let found = servers
            .iter()
            .find(|s| s.address.as_ref() == Some(&address));
        found.is_some_and(|s| s.admission == Admission::Maintenance)
    };
    setup.eventually("the gateway knows the candidate", &held);
    host.sleep(Duration::from_millis(600));
    for _ in 0..20 {
        assert_eq!(fronted.version(setup).as_deref(), Some("v1.0.0"));
    }
    fronted.set(setup, Some(&address), Admission::Ready);
    fronted.set(
        setup,
        incumbent.addresses.first().map(String::as_str),
        Admission::Drain,
    );
    for _ in 0..20 {
        assert_eq!(fronted.version(setup).as_deref(), Some("v1.1.0"));
    }
    // The definition of the gateway is the same in both files.
    host.up(&composition, GATEWAY_SERVICE).expect("it runs");
    assert_eq!(setup.container(GATEWAY_SERVICE).id, fronted.gateway);
    let nobody = Change {
        backend: "web_8080".to_owned(),
        server: "nobody".to_owned(),
        to: Admission::Ready,
    };
    is_an_error(host.change_gateway(&fronted.gateway, &[nobody]));
}

fn a_gateway_that_starts_anew_has_forgotten_everything(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let host = setup.host();
    let fronted = Fronted::start(setup, &image);
    fronted.set(setup, None, Admission::Maintenance);
    host.stop_within(&fronted.gateway, Duration::ZERO)
        .expect("stopped");
    is_an_error(host.gateway_servers(&fronted.gateway));
    host.start(&fronted.gateway).expect("started");
    setup.eventually("the gateway serves", &|| fronted.version(setup).is_some());
    let servers = fronted.servers(setup);
    assert!(
        servers.iter().all(|s| s.admission == Admission::Ready),
        "{servers:?}"
    );
}

fn a_measurement_counts_what_it_asks(setup: &dyn Setup) {
    let image = setup.image("web", "v1.0.0", &Behaviour::Healthy);
    let port = setup.port();
    let composition = setup.compose(&publishing(&image, port));
    setup.host().up(&composition, "web").expect("it runs");
    let url = format!("http://127.0.0.1:{port}/version");
    let ask = || {
        setup
            .host()
            .ask(&url, Duration::from_secs(5), None)
            .is_success()
    };
    setup.eventually("it answers", &ask);
    let mut prober = setup.host().prober(&Target {
        url: url.clone(),
        per_second: 50,
        timeout: Duration::from_secs(1),
        version: Some(VersionCheck::Header(VERSION_HEADER.to_owned())),
        by_proxy: false,
    });
    let mut measure = |enough: &dyn Fn(&Measured) -> bool| {
        let deadline = setup.host().boot_time().plus_ms(20_000);
        let mut all = Measured::default();
        while !enough(&all) {
            assert!(!deadline.has_passed(&setup.host().boot_time()), "{all:?}");
            setup.host().sleep(Duration::from_millis(100));
            all.add(&prober.take());
        }
        all
    };
    let good = measure(&|m| m.total >= 10);
    assert_eq!(good.failed, 0, "{good:?}");
    assert_eq!(good.versions[0].version, "v1.0.0");
    let id = setup.container("web").id;
    setup
        .host()
        .stop_within(&id, Duration::ZERO)
        .expect("stopped");
    let bad = measure(&|m| m.failed >= 3);
    assert!(!bad.reasons.is_empty());
}
