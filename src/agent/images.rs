//! Which image is which on this host: an engine's images, found and compared by what they are.
//!
//! Runs on the host, and changes nothing. What the engine calls an image is looked up anew whenever a transaction needs it:
//! the same image may have come in another packing, and the engine may keep its images in another store than last time.
//! Finding out what an image is may cost reading all of it, so what a release has recorded is not asked again; an engine's
//! ID is a digest itself and never means another image.

use super::host::{Host, HostError, Image, ImageContent};
use belay_model::composition::image::{Content, Likeness};
use belay_model::transaction::plan::PlannedImage;
use belay_model::versions::release::{Release, ReleaseService};

/// An image that is wanted, and where it may be found.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub content: Content,
    /// The manifest that it was sent with.
    pub manifest: Option<&'a str>,
    /// Names and IDs to look under, the best first.
    pub names: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    /// An image that the runner brings. A release that has it already knows it by a name that containers bear.
    pub(crate) fn planned(planned: &'a PlannedImage, releases: &'a [Release]) -> Wanted<'a> {
        let known = services(releases).filter(|s| s.config == planned.id);
        let mut names: Vec<&str> = known.flat_map(names_of).collect();
        names.extend([planned.reference.as_str(), planned.id.as_str()]);
        Wanted {
            content: planned.content(),
            manifest: planned.manifest.as_deref(),
            names,
        }
    }

    /// The image of a service of a release.
    #[must_use]
    pub(crate) fn released(service: &'a ReleaseService) -> Wanted<'a> {
        Wanted {
            content: service.content(),
            manifest: None,
            names: names_of(service).collect(),
        }
    }
}

/// The images that this host's engine has.
pub(crate) struct Images<'a> {
    host: &'a dyn Host,
    releases: &'a [Release],
}

impl<'a> Images<'a> {
    /// `releases`: those that are kept on the host.
    pub(crate) fn new(host: &'a dyn Host, releases: &'a [Release]) -> Images<'a> {
        Images { host, releases }
    }

    /// The first of the names that leads to the wanted image.
    pub(crate) fn find(&self, wanted: &Wanted<'_>) -> Result<Option<Image>, HostError> {
        for name in &wanted.names {
            if let Some(image) = self.host.image(name)?
                && self.is(&image, wanted)?
            {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    /// The services of a release whose images are not on the host.
    pub(crate) fn missing<'r>(
        &self,
        release: &'r Release,
    ) -> Result<Vec<&'r ReleaseService>, HostError> {
        let mut missing = vec![];
        for service in &release.services {
            if !service.engine_id().is_empty() && !self.has(service)? {
                missing.push(service);
            }
        }
        Ok(missing)
    }

    /// Whether the image of a service of a release is there.
    pub(crate) fn has(&self, service: &ReleaseService) -> Result<bool, HostError> {
        match self.find(&Wanted::released(service)) {
            Ok(found) => Ok(found.is_some()),
            // One that the engine cannot even read is of no use.
            Err(HostError::Unidentified { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is(&self, image: &Image, wanted: &Wanted<'_>) -> Result<bool, HostError> {
        let likeness = wanted
            .content
            .likeness(wanted.manifest, &image.id, &image.layers);
        Ok(match likeness {
            Likeness::Same => true,
            Likeness::Other => false,
            Likeness::SameLayers => self.content(&image.id)?.config == wanted.content.config,
        })
    }

    /// Looks up the images of a release and notes in it what the engine calls them now. Tells for each service that has one
    /// whether it is there.
    pub(crate) fn refresh(
        &self,
        release: &mut Release,
    ) -> Result<Vec<(String, Option<Image>)>, HostError> {
        let mut found = vec![];
        for service in &mut release.services {
            if service.engine_id().is_empty() {
                continue;
            }
            let image = self.find(&Wanted::released(service))?;
            if let Some(image) = &image
                && image.id != service.engine_id()
            {
                service.engine_id = Some(image.id.clone());
            }
            found.push((service.name.clone(), image));
        }
        Ok(found)
    }

    /// What the image is that the engine calls `id`.
    pub(crate) fn content(&self, id: &str) -> Result<ImageContent, HostError> {
        match self.known(id) {
            Some(known) => Ok(ImageContent {
                config: known.config.clone(),
                size: known.size,
            }),
            None => self.host.image_content(id),
        }
    }

    /// An image's identity as far as it is recorded, else what the engine calls it: for people.
    #[must_use]
    pub(crate) fn recorded(&self, id: &str) -> String {
        self.known(id).map_or(id, |known| &known.config).to_owned()
    }

    /// Records of older versions, which have no layers, took an engine's ID for the identity.
    fn known(&self, id: &str) -> Option<&ReleaseService> {
        services(self.releases).find(|s| s.engine_id() == id && !s.layers.is_empty())
    }
}

/// What a release knows its image by.
fn names_of(service: &ReleaseService) -> impl Iterator<Item = &str> {
    let names = [service.engine_id(), &service.pin, &service.config];
    names.into_iter().filter(|name| !name.is_empty())
}

fn services(releases: &[Release]) -> impl Iterator<Item = &ReleaseService> {
    releases.iter().flat_map(|release| &release.services)
}
