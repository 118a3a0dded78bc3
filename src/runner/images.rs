//! Images on the runner: built from the user's Dockerfiles (or given), tested and measured. [`super::ship`] sends them.
//!
//! Runs on the runner. Nothing of it touches the host.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::engine::{self, Identified, RunnerDocker, RunnerDockerError, builder_name};
use super::program::{ProgramError, argv, run, run_telling};
use super::ssh::Interrupt;
use belay_model::composition::build::{Build, BuildProblem, Builder, declared};
use belay_model::composition::image::Naming;
use belay_model::composition::image::architecture;
use belay_model::composition::project::repository;
use belay_model::config::ImageSource;
use belay_model::config::{self, Excess, Gateway, Settings};
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::outcome::{Failure, ImageReport};
use belay_model::transaction::plan::PlannedImage;
use belay_wire::HostFacts;

/// What an image is made for.
pub(crate) struct Making<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) project: &'a str,
    pub(crate) tag: &'a str,
    pub(crate) revision: &'a str,
    /// Where the source code is found, for the image's labels.
    pub(crate) repository_url: Option<&'a str>,
    /// The directory of the Compose file.
    pub(crate) directory: &'a Path,
    pub(crate) facts: &'a HostFacts,
    /// The runner's Docker, once something asks for it: an application that builds nothing needs none.
    pub(crate) engine: OnceCell<RunnerDocker>,
    pub(crate) interrupt: &'a Interrupt,
}

impl Making<'_> {
    fn engine(&self) -> Result<RunnerDocker, ImageError> {
        if let Some(engine) = self.engine.get() {
            return Ok(*engine);
        }
        let found = RunnerDocker::find().map_err(ImageError::NoEngine)?;
        Ok(*self.engine.get_or_init(|| found))
    }
}

/// Why there is no image to send. The host was not touched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// The runner's Docker does not answer.
    #[error(transparent)]
    NoEngine(RunnerDockerError),
    /// The Compose file's builds cannot be carried out.
    #[error(transparent)]
    Builds(BuildProblem),
    /// A service's Dockerfile cannot be read.
    #[error("could not read {} of service {service}", path.display())]
    Dockerfile {
        /// Where it should be.
        path: PathBuf,
        /// Whose it is.
        service: String,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// Its last lines say why.
    #[error("the image of {service} could not be built{}", with_builder(builder.as_deref()))]
    Build {
        /// Whose image it is.
        service: String,
        /// The builder that was chosen, where it is not Docker's own.
        builder: Option<String>,
        /// How the builder ended.
        source: ProgramError,
    },
    /// An image that belay.yml names is neither here nor to be had.
    #[error("the image {name} of {service} is not here")]
    NotGiven {
        /// The image's name in belay.yml.
        name: String,
        /// Whose image it is.
        service: String,
        /// How the pull ended.
        source: ProgramError,
    },
    /// The image could not be given its name.
    #[error(transparent)]
    Tag(ProgramError),
    /// The host's processor cannot run it.
    #[error("the image of {of} is made for {there}, but the host is {wanted}")]
    OtherPlatform {
        /// A service, or the gateway.
        of: String,
        /// Its architecture.
        there: String,
        /// The host's.
        wanted: String,
        /// What to do: it depends on who makes the image.
        next: String,
    },
    /// It is not known what the image is.
    #[error(transparent)]
    Unidentified(RunnerDockerError),
    /// `images.test` ended with an error.
    #[error("the test of the image of {service} failed")]
    Test {
        /// Whose image was tested.
        service: String,
        /// How the test ended.
        source: ProgramError,
    },
    /// belay.yml makes a rule of it.
    #[error("{0}")]
    TooLarge(String),
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Failure {
        let lines = Failure::of(&error);
        match error {
            ImageError::NoEngine(_) => {
                lines.next("Docker has to run on the runner, to build images and to send them")
            }
            ImageError::Builds(_) => lines.next("mend the build section in the Compose file"),
            ImageError::Dockerfile { .. } => {
                lines.next("check build.context and build.dockerfile in the Compose file")
            }
            ImageError::Build { .. } => {
                lines.next("build it in a checkout of this tag to see the same error")
            }
            ImageError::NotGiven { .. } => {
                lines.next("build or pull it in an earlier step of the workflow")
            }
            ImageError::OtherPlatform { next, .. } => lines.next(next),
            ImageError::Test { .. } => {
                lines.next("run images.test of belay.yml in the image to see why")
            }
            ImageError::TooLarge(_) => {
                lines.next("make the image smaller, or change `images` in belay.yml")
            }
            ImageError::Tag(_) | ImageError::Unidentified(_) => lines,
        }
    }
}

/// Images that are ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct BuiltImages {
    pub(crate) images: Vec<PlannedImage>,
    /// How they are packed, where the runner's engine keeps them packed.
    pub(crate) packing: Vec<Naming>,
    pub(crate) reports: Vec<ImageReport>,
    pub(crate) warnings: Vec<String>,
    pub(crate) build_ms: Option<u64>,
    pub(crate) test_ms: Option<u64>,
}

/// The variables that a `build` section may use. The run's own environment is not among them: an image must not depend on
/// the machine that it was built on.
pub(crate) fn variables(tag: &str, revision: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("BELAY_TAG".to_owned(), tag.to_owned()),
        ("BELAY_REVISION".to_owned(), revision.to_owned()),
    ])
}

/// Builds, tests and measures every image that is Belay's to bring. Nothing of it touches the host.
pub(crate) fn make(
    making: &Making<'_>,
    builds: &[Build],
    tell: &mut dyn FnMut(&[u8]),
) -> Result<BuiltImages, ImageError> {
    let mut made = BuiltImages::default();
    let began = Instant::now();
    for build in builds.iter().filter(|b| !is_given(making, &b.service)) {
        let reference = build_one(making, build, tell)?;
        add(making, &mut made, &build.service, reference)?;
    }
    if !made.images.is_empty() {
        made.build_ms = Some(elapsed_ms(began));
    }
    for (service, name) in &making.settings.images.given {
        let reference = take_given(making, service.as_str(), name.as_str(), tell)?;
        add(making, &mut made, service.as_str(), reference)?;
    }
    test_all(making, builds, &mut made, tell)?;
    judge_sizes(making, &mut made)?;
    // It is none of the application's images, so their rules are not for it.
    add_gateway(making, &mut made, tell)?;
    Ok(made)
}

fn is_given(making: &Making<'_>, service: &str) -> bool {
    making
        .settings
        .images
        .given
        .keys()
        .any(|name| name.as_str() == service)
}

fn reference(making: &Making<'_>, service: &str) -> String {
    format!("{}:{}", repository(making.project, service), making.tag)
}

fn build_one(
    making: &Making<'_>,
    build: &Build,
    tell: &mut dyn FnMut(&[u8]),
) -> Result<String, ImageError> {
    let directory = making.directory.display().to_string();
    let reference = reference(making, &build.service);
    let offered: Vec<(String, String)> =
        variables(making.tag, making.revision).into_iter().collect();
    let dockerfile = making
        .directory
        .join(&build.context)
        .join(build.dockerfile.as_deref().unwrap_or("Dockerfile"));
    let text = std::fs::read_to_string(&dockerfile).map_err(|source| ImageError::Dockerfile {
        path: dockerfile,
        service: build.service.clone(),
        source,
    })?;
    let platform = platform(making);
    let builder = making.engine()?.builder;
    let argv = build.argv(
        builder,
        &directory,
        &reference,
        platform.as_deref(),
        &labels(making),
        &declared(&text, &offered),
    );
    run_telling(&argv, making.interrupt, tell).map_err(|source| ImageError::Build {
        service: build.service.clone(),
        builder: chosen_builder(builder),
        source,
    })?;
    Ok(reference)
}

/// Which builder was chosen, for an error: it need not be Docker's own.
fn chosen_builder(builder: Builder) -> Option<String> {
    match builder {
        Builder::Docker => None,
        Builder::Buildx => builder_name().filter(|name| name != "default"),
    }
}

fn with_builder(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!(" with the builder {name}"))
}

/// The platform to build for: the settings', or the host's when it is not the runner's.
fn platform(making: &Making<'_>) -> Option<String> {
    if let Some(platform) = &making.settings.images.platform {
        return Some(platform.as_str().to_owned());
    }
    let here = architecture(std::env::consts::ARCH);
    let there = making.facts.engine.architecture.as_str();
    (here != there).then(|| format!("linux/{there}"))
}

/// Labels of the OCI image specification (annotations), and Belay's own.
fn labels(making: &Making<'_>) -> Vec<(String, String)> {
    let mut labels = vec![
        (
            "org.opencontainers.image.version".to_owned(),
            making.tag.to_owned(),
        ),
        (
            "org.opencontainers.image.revision".to_owned(),
            making.revision.to_owned(),
        ),
        (
            "org.opencontainers.image.title".to_owned(),
            making.settings.app.as_str().to_owned(),
        ),
        (
            "dev.belay.app".to_owned(),
            making.settings.app.as_str().to_owned(),
        ),
    ];
    if let Some(url) = making.repository_url {
        labels.push(("org.opencontainers.image.source".to_owned(), url.to_owned()));
    }
    labels
}

/// An image that somebody else made: the engine's own, else pulled.
fn take_given(
    making: &Making<'_>,
    service: &str,
    name: &str,
    tell: &mut dyn FnMut(&[u8]),
) -> Result<String, ImageError> {
    // Without an engine nothing could be asked, and everything would be pulled.
    making.engine()?;
    if !engine::is_there(name) {
        run_telling(&argv(["docker", "pull", name]), making.interrupt, tell).map_err(|source| {
            ImageError::NotGiven {
                name: name.to_owned(),
                service: service.to_owned(),
                source,
            }
        })?;
    }
    let reference = reference(making, service);
    run(&argv(["docker", "tag", name, &reference])).map_err(ImageError::Tag)?;
    Ok(reference)
}

/// The gateway's image, where the runner is to send it.
fn add_gateway(
    making: &Making<'_>,
    made: &mut BuiltImages,
    tell: &mut dyn FnMut(&[u8]),
) -> Result<(), ImageError> {
    let Gateway::On {
        image,
        source: config::ImageSource::Stream,
    } = &making.settings.gateway
    else {
        return Ok(());
    };
    let reference = take_given(making, GATEWAY_SERVICE, image.as_str(), tell)?;
    let platform = format!("linux/{}", making.facts.engine.architecture);
    let pull = format!("docker pull --platform {platform} {}", image.as_str());
    let next = format!("run `{pull}` in an earlier step of the workflow");
    let identified = identify(making, "the gateway", &reference, next)?;
    plan_it(made, GATEWAY_SERVICE, reference, identified);
    Ok(())
}

fn add(
    making: &Making<'_>,
    made: &mut BuiltImages,
    service: &str,
    reference: String,
) -> Result<(), ImageError> {
    let architecture = &making.facts.engine.architecture;
    let next = format!("set `images.platform: linux/{architecture}` in belay.yml");
    let identified = identify(making, service, &reference, next)?;
    let mut before = making.facts.images.iter();
    made.reports.push(ImageReport {
        service: service.to_owned(),
        reference: reference.clone(),
        id: identified.content.config.clone(),
        size: identified.size,
        previous_size: before.find(|i| i.service == service).map(|i| i.size),
        budget: Some(making.settings.images.budget.get()),
    });
    plan_it(made, service, reference, identified);
    Ok(())
}

fn plan_it(made: &mut BuiltImages, service: &str, reference: String, identified: Identified) {
    let Identified {
        content,
        manifest,
        size,
        volumes,
    } = identified;
    made.images.push(PlannedImage {
        service: service.to_owned(),
        reference: reference.clone(),
        id: content.config,
        layers: content.layers,
        manifest: manifest.as_ref().map(|manifest| manifest.digest.clone()),
        size,
        source: ImageSource::Stream,
        volumes,
    });
    let naming = |manifest| Naming {
        reference,
        manifest,
    };
    made.packing.extend(manifest.map(naming));
}

/// What an image is. One that the host's processor cannot run is found before it travels.
fn identify(
    making: &Making<'_>,
    of: &str,
    reference: &str,
    next: String,
) -> Result<Identified, ImageError> {
    let wanted = &making.facts.engine.architecture;
    let found = making.engine()?.identify(reference, wanted);
    found.map_err(|error| match error {
        RunnerDockerError::OtherPlatform { there, wanted } => ImageError::OtherPlatform {
            of: of.to_owned(),
            there,
            wanted,
            next,
        },
        other => ImageError::Unidentified(other),
    })
}

/// Runs the test command inside each built image, once for each different one.
fn test_all(
    making: &Making<'_>,
    builds: &[Build],
    made: &mut BuiltImages,
    tell: &mut dyn FnMut(&[u8]),
) -> Result<(), ImageError> {
    let Some((program, words)) = making.settings.images.test.split_first() else {
        return Ok(());
    };
    let began = Instant::now();
    let mut tested: Vec<&str> = vec![];
    for image in made
        .images
        .iter()
        .filter(|i| builds.iter().any(|b| b.service == i.service))
    {
        if tested.contains(&image.id.as_str()) {
            continue;
        }
        tested.push(&image.id);
        let mut argv = argv([
            "docker",
            "run",
            "--rm",
            "--network",
            "none",
            "--entrypoint",
            program,
            &image.reference,
        ]);
        argv.extend(words.iter().cloned());
        run_telling(&argv, making.interrupt, tell).map_err(|source| ImageError::Test {
            service: image.service.clone(),
            source,
        })?;
    }
    made.test_ms = (!tested.is_empty()).then(|| elapsed_ms(began));
    Ok(())
}

/// Compares sizes with the budget and with the version before; whether that refuses or warns is the settings' choice.
fn judge_sizes(making: &Making<'_>, made: &mut BuiltImages) -> Result<(), ImageError> {
    let images = &making.settings.images;
    for report in &made.reports {
        if report.is_over_budget() {
            let text = format!(
                "the image of {} takes {}, over its budget of {}",
                report.service,
                mb(report.size),
                mb(images.budget.get())
            );
            excess(images.over_budget, text, &mut made.warnings)?;
        }
        if let Some(before) = report.previous_size
            && report.size > before + before / 100 * u64::from(images.growth.get())
        {
            let text = format!(
                "the image of {} grew from {} to {}, more than {} %",
                report.service,
                mb(before),
                mb(report.size),
                images.growth.get()
            );
            excess(images.over_growth, text, &mut made.warnings)?;
        }
    }
    Ok(())
}

fn excess(rule: Excess, text: String, warnings: &mut Vec<String>) -> Result<(), ImageError> {
    match rule {
        Excess::Warn => {
            warnings.push(text);
            Ok(())
        }
        Excess::Fail => Err(ImageError::TooLarge(text)),
    }
}

fn mb(bytes: u64) -> String {
    // In tenths, rounded, by whole numbers: a size has more digits than a float.
    let tenths = bytes.saturating_add(50_000) / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
