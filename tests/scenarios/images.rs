//! An image is what it is, whatever an engine calls it. The host in memory has the containerd store, so its IDs are nobody's
//! identity; each place that names an image is looked at, and what an engine may do behind one's back is done.

use belay_agent::engine::Ending;
use belay_agent::host::Host as _;
use belay_agent::{backup, facts, state};
use belay_model::composition::image::ImageStore;
use belay_model::transaction::journal::{End, Output};
use belay_model::transaction::plan::PlannedWork;
use belay_model::transaction::step::Step;
use belay_model::versions::release::{Release, ReleaseService, RollbackTo};
use belay_wire::HostFacts;

use crate::support::fake_host::Behaviour;
use crate::support::site::{Site, Version, deployment_of};

fn serving(site: &Site) -> Release {
    let current = site.current().expect("something serves");
    let release = state::release(&site.layout, &current.release);
    release.expect("readable").expect("it has a record")
}

fn service(release: &Release, name: &str) -> ReleaseService {
    release.service(name).expect("it is in the release").clone()
}

fn facts(site: &Site) -> HostFacts {
    facts::gather(&site.host, &site.layout).expect("the host can be looked at")
}

/// A version deployed on a host whose engine has this store.
fn deployed(store: ImageStore) -> (Site, Version) {
    let site = Site::new();
    site.host.switch_store(store);
    let version = Version::first("v1.0.0");
    site.must_deploy(&version);
    (site, version)
}

#[test]
fn the_same_version_is_recorded_alike_by_both_stores_but_for_what_they_call_its_images() {
    let [graph, containerd] = [ImageStore::Graph, ImageStore::Containerd].map(|store| {
        let (site, version) = deployed(store);
        let release = serving(&site);
        assert_eq!(release.store, Some(store));
        let web = service(&release, "web");
        assert_eq!(web.config, version.image("web").config);
        assert_eq!(web.layers, version.image("web").layers());
        assert_eq!(web.engine_id() == web.config, store == ImageStore::Graph);
        let file = site.read("docker-compose.yml").expect("it is there");
        let root = site.root().display().to_string();
        (release, file.replace(&root, "ROOT"))
    });
    let strip = |(release, file): (Release, String)| {
        let mut services = release.services;
        services.iter_mut().for_each(|s| s.engine_id = None);
        (services, file)
    };
    // The pinned Compose file is the same, too.
    assert_eq!(strip(graph), strip(containerd));
}

#[test]
fn journal_facts_and_backups_tell_the_identity() {
    let (site, first) = deployed(ImageStore::Containerd);
    let wanted = first.image("web").config;
    let web = |images: &[(String, String)]| {
        let found = images.iter().find(|(service, _)| service == "web");
        found.expect("web is there").1.clone()
    };
    let known = facts(&site);
    let images = known
        .images
        .iter()
        .map(|i| (i.service.clone(), i.id.clone()));
    assert_eq!(web(&images.collect::<Vec<_>>()), wanted);
    assert!(known.images.iter().all(|i| i.is_there));
    let services = known.services.iter();
    let services = services.map(|s| (s.service.clone(), s.image_id.clone()));
    assert_eq!(web(&services.collect::<Vec<_>>()), wanted);

    site.must_deploy(&Version::second("v1.1.0"));
    let entries = site.entries();
    let Some(Output::Fetched { images, .. }) =
        belay_model::transaction::journal::output(&entries, Step::Fetch)
    else {
        panic!("it was fetched");
    };
    let fetched = images.iter().map(|i| (i.service.clone(), i.id.clone()));
    let of_second = Version::second("v1.1.0").image("web");
    assert_eq!(web(&fetched.collect::<Vec<_>>()), of_second.config);
    let listed = backup::list(site.root());
    let saved = &listed.last().expect("there is a backup").manifest.images;
    let saved = saved
        .iter()
        .find(|i| i.service == "web")
        .expect("web is in it");
    assert_eq!(saved.id, wanted);
    assert_eq!(saved.engine_id, first.image("web").id);
    let text = site
        .backups()
        .last()
        .map(|b| format!("backups/{}.images.txt", b.name));
    let text = site
        .read(&text.expect("there is one"))
        .expect("it has a list");
    assert!(
        text.contains(&saved.id) && text.contains(&saved.engine_id),
        "{text}"
    );
}

#[test]
fn an_unchanged_image_that_comes_in_another_packing_leaves_its_container_alone() {
    let site = Site::new();
    let plain = |tag: &str| {
        let mut version = Version::first(tag);
        for service in ["web", "worker", "migrate"] {
            let service = version.compose["services"][service].as_object_mut();
            service.expect("it is there").remove("environment");
        }
        version.files.clear();
        version
    };
    let first = plain("v1.0.0");
    site.must_deploy(&first);
    let (before, id) = (site.container("web"), first.image("web").id);
    // Built once more, nothing is different about the image but its packing.
    let mut plan = deployment_of(&plain("v1.0.1"));
    plan.health.version = None;
    let PlannedWork::Deploy(deploy) = &mut plan.work else {
        panic!("a deployment");
    };
    for planned in &mut deploy.images {
        let image = first.image(&planned.service).packed_again();
        planned.id.clone_from(&image.config);
        planned.layers = image.layers();
        site.host.load(&planned.reference, &image);
    }
    let ending = site.engine(&plan).expect("it ends");
    assert_eq!(
        ending,
        Ending::Ended(End::Committed),
        "{:?}",
        site.failures()
    );
    assert_eq!(site.container("web"), before, "it was replaced for nothing");
    assert_eq!(service(&serving(&site), "web").engine_id(), id);
    // The version's name leads to the image that the service has, and the other packing is gone.
    let named = site.host.image("belay/app/web:v1.0.1").expect("asked");
    assert_eq!(named.map(|i| i.id), Some(id));
    let again = first.image("web").packed_again().id;
    assert_eq!(site.host.image(&again).expect("asked"), None);
}

#[test]
fn an_image_that_is_another_one_than_planned_is_refused_whatever_its_name() {
    let (site, _) = deployed(ImageStore::Containerd);
    let next = Version::second("v1.1.0");
    site.bring(&next);
    // Its layers are those that were announced, so only its config can tell.
    let other = format!("sha256:{}", "0".repeat(64));
    let id = next.image("web").id;
    site.host.world().images.get_mut(&id).expect("there").config = other;
    let layers = site.host.image(&id).expect("asked").expect("there").layers;
    let mut plan = deployment_of(&next);
    let PlannedWork::Deploy(deploy) = &mut plan.work else {
        panic!("a deployment");
    };
    let web = deploy.images.iter_mut().find(|i| i.service == "web");
    web.expect("planned").layers = layers;
    let ending = site.engine(&plan).expect("it ends");
    assert_eq!(ending, Ending::Ended(End::Unwound), "{:?}", site.failures());
    assert!(
        site.cause().error.contains("did not arrive"),
        "{:?}",
        site.cause()
    );
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
    site.check();
}

#[test]
fn a_rollback_finds_images_that_the_engine_calls_something_else_by_now() {
    let (site, first) = deployed(ImageStore::Containerd);
    site.must_deploy(&Version::second("v1.1.0"));
    // Somebody has loaded the old version's image again, from another machine.
    let old = first.image("web");
    let again = old.clone().packed_again();
    let mut world = site.host.world();
    world.images.remove(&old.id);
    world.images.insert(again.id.clone(), again.clone());
    for id in world.names.values_mut().filter(|id| **id == old.id) {
        id.clone_from(&again.id);
    }
    drop(world);
    assert!(
        facts(&site)
            .releases
            .iter()
            .all(|r| r.missing_images.is_empty())
    );
    let ending = site.roll_back(RollbackTo::Previous);
    assert_eq!(
        ending,
        Ending::Ended(End::Committed),
        "{:?}",
        site.failures()
    );
    site.check();
    let web = service(&serving(&site), "web");
    assert_eq!(
        (web.engine_id(), &web.config),
        (again.id.as_str(), &old.config)
    );
}

#[test]
fn a_host_whose_store_was_switched_gets_its_images_again_and_keeps_its_data() {
    for (from, to) in [
        (ImageStore::Graph, ImageStore::Containerd),
        (ImageStore::Containerd, ImageStore::Graph),
    ] {
        let (site, first) = deployed(from);
        let data = site.photo().data;
        site.host.switch_store(to);
        let known = facts(&site);
        assert!(known.images.iter().all(|i| !i.is_there), "{known:?}");
        assert_eq!(known.releases[0].missing_images.len(), 6);
        let next = Version::second("v1.1.0");
        site.must_deploy(&next);
        assert_eq!(serving(&site).store, Some(to));
        assert!(site.photo().data.is_superset(&data), "data is in no store");
        // The version before is gone with the store, and is not offered.
        let ending = site.roll_back(RollbackTo::Previous);
        assert_eq!(ending, Ending::Ended(End::Unwound));
        assert!(site.cause().error.contains("gone"), "{:?}", site.cause());
        site.check();
        // Sent again, it comes back.
        let mut again = first.clone();
        again.tag = "v1.2.0".to_owned();
        site.must_deploy(&again);
    }
}

#[test]
fn an_image_that_the_store_still_has_from_an_earlier_time_is_not_sent_again() {
    let (site, first) = deployed(ImageStore::Containerd);
    // The engine kept its images elsewhere for a while; of before it has what no container needed, by its pin.
    site.host.switch_store(ImageStore::Graph);
    let mut next = first.clone();
    next.tag = "v1.1.0".to_owned();
    site.must_deploy(&next);
    let release = serving(&site);
    site.host.switch_store(ImageStore::Containerd);
    for service in &release.services {
        if next.built.contains_key(&service.name) {
            site.host.load(&service.pin, &next.image(&service.name));
        }
    }
    let there = facts(&site).images.into_iter().filter(|i| i.is_there);
    assert_eq!(
        there.map(|i| i.service).collect::<Vec<_>>(),
        ["migrate", "web", "worker"]
    );
    // A deployment of the same images, which brings none of them.
    let ending = site.engine(&deployment_of(&next)).expect("it ends");
    assert_eq!(
        ending,
        Ending::Ended(End::Committed),
        "{:?}",
        site.failures()
    );
    site.check();
}

#[test]
fn names_of_an_image_that_never_changes_do_not_grow_in_number() {
    let (site, _) = deployed(ImageStore::Containerd);
    let names = || {
        let names = site.host.image_names("belay/app/").expect("listed");
        let of_unchanged = |reference: &str| {
            reference.starts_with("belay/app/db:")
                || reference.starts_with("belay/app/belay-gateway:")
        };
        names.iter().filter(|n| of_unchanged(&n.reference)).count()
    };
    let before = names();
    for minor in 1..6 {
        site.must_deploy(&Version::first(&format!("v1.{minor}.0")));
    }
    assert_eq!(names(), before);
}

#[test]
fn a_host_that_somebody_has_moved_to_another_store_by_hand_goes_back_to_what_runs_there() {
    let (site, first) = deployed(ImageStore::Graph);
    let release = serving(&site);
    let old = site.host.world().images.clone();
    site.host.switch_store(ImageStore::Containerd);
    for service in &release.services {
        let mut image = old[service.engine_id()].clone();
        image.id = format!("sha256:elsewhere-{}", service.name);
        site.host.load(&service.pin, &image);
    }
    for service in release.services.iter().filter(|s| s.name != "migrate") {
        let up = site.host.up(&site.composition(), &service.name);
        up.expect("it runs");
    }
    site.host.calm();
    let bad = Version::second("v1.1.0").with("web", Behaviour::Status500);
    assert_eq!(
        site.deploy(&bad),
        Ending::Ended(End::Unwound),
        "{:?}",
        site.failures()
    );
    site.check();
    assert_eq!(site.answered().as_deref(), Some(first.tag.as_str()));
    assert_eq!(serving(&site).store, Some(ImageStore::Containerd));
}

#[test]
fn without_a_way_back_nothing_begins_and_there_is_a_way_out() {
    let (site, _) = deployed(ImageStore::Graph);
    let (images, names, containers) = {
        let world = site.host.world();
        (
            world.images.clone(),
            world.names.clone(),
            world.containers.clone(),
        )
    };
    site.host.switch_store(ImageStore::Containerd);
    site.must_deploy(&Version::second("v1.1.0"));
    // Switched back: what ran then runs again, and nothing is left of what is recorded.
    site.host.switch_store(ImageStore::Graph);
    {
        let mut world = site.host.world();
        (world.images, world.names, world.containers) = (images, names, containers);
    }
    let next = Version::second("v1.2.0");
    assert_eq!(site.deploy(&next), Ending::Ended(End::Unwound));
    assert!(
        site.cause().error.contains("no way back"),
        "{:?}",
        site.cause()
    );
    assert_eq!(site.answered().as_deref(), Some("v1.0.0"));
    // As the refusal says.
    site.host.world().containers.clear();
    site.must_deploy(&next);
}

#[test]
fn pruning_spares_an_image_by_its_pin_when_its_id_is_of_another_time() {
    let (site, first) = deployed(ImageStore::Containerd);
    let pin = service(&serving(&site), "web").pin;
    let old = first.image("web");
    let again = old.clone().packed_again();
    site.must_deploy(&Version::second("v1.1.0"));
    site.host.load(&pin, &again);
    site.must_deploy(&Version::second("v1.2.0"));
    let named = site.host.image(&pin).expect("asked");
    assert_eq!(named.map(|i| i.id), Some(again.id));
}

#[test]
fn an_application_that_ran_before_is_adopted_by_what_its_images_are() {
    let site = Site::new();
    site.handmade();
    site.must_deploy(&Version::first("v1.0.0"));
    let releases = state::releases(&site.layout).expect("readable");
    let adopted = releases
        .iter()
        .find(|r| r.seq == 0)
        .expect("it was adopted");
    let web = service(adopted, "web");
    let world = site.host.world();
    let image = &world.images[web.engine_id()];
    assert_eq!(web.config, image.config);
    assert_ne!(web.config, web.engine_id());
    assert_eq!(web.layers, image.layers());
}
