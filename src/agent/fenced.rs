//! A host for one engine only: it looks before each call whether its engine may still act ([`super::fence`]).
//!
//! Runs on the host. Calls that only read look as well, so that loops that wait notice.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::backup::{
    DataKind, DataReader, DataWriter, EntryRecord, Feed, LogSource, ReadError, Sink,
};
use super::fence::{Fence, Overtaken};
use super::host::{
    Composition, Container, Host, HostError, Image, ImageContent, ImageName, Volume,
};
use belay_model::composition::data::RestoredSource;
use belay_model::judgement::health::{HealthAnswer, VersionCheck};
use belay_model::replacement::gateway::{Change, Server};
use belay_model::transaction::journal::BootTime;
use belay_prober::{Prober, Target};
use belay_wire::EngineFacts;

/// A host for one engine only.
pub(crate) struct Fenced<'a> {
    host: &'a dyn Host,
    fence: Fence,
}

impl<'a> Fenced<'a> {
    pub(crate) fn new(host: &'a dyn Host, fence: Fence) -> Self {
        Fenced { host, fence }
    }
}

/// One line for each call: looks first, then passes it on. Reading calls look as well, so that loops that wait notice.
macro_rules! looks_first {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> Result<$answer, HostError> {
            self.fence.check()?;
            self.host.$name($($argument),*)
        })*
    };
}

impl Host for Fenced<'_> {
    looks_first! {
        fn engine() -> EngineFacts;
        fn containers(project: &str) -> Vec<Container>;
        fn images_in_use() -> Vec<String>;
        fn image(reference: &str) -> Option<Image>;
        fn image_content(id: &str) -> ImageContent;
        fn image_names(prefix: &str) -> Vec<ImageName>;
        fn name_image(id: &str, reference: &str) -> ();
        fn forget_image(reference: &str) -> ();
        fn pull(reference: &str) -> ();
        fn render(composition: &Composition, variables: &[(String, String)]) -> Value;
        fn up(composition: &Composition, service: &str) -> ();
        fn create(composition: &Composition, service: &str, containers: usize) -> ();
        fn start(container: &str) -> ();
        fn unpause(container: &str) -> ();
        fn set_restart_policy(container: &str, policy: &str) -> ();
        fn run_in(container: &str, argv: &[String], deadline: Duration) -> ();
        fn stop(container: &str) -> ();
        fn stop_within(container: &str, grace: Duration) -> ();
        fn restart(container: &str, grace: Duration) -> ();
        fn gateway_servers(gateway: &str) -> Vec<Server>;
        fn change_gateway(gateway: &str, changes: &[Change]) -> ();
        fn remove_container(container: &str) -> ();
        fn logs(container: &str, lines: u32) -> String;
        fn networks(project: &str) -> Vec<String>;
        fn remove_network(name: &str) -> ();
        fn volumes(project: &str) -> Vec<String>;
        fn volume(name: &str) -> Option<Volume>;
        fn projects() -> Vec<String>;
        fn remove_volume(name: &str) -> ();
        fn data_root() -> PathBuf;
    }

    fn may_act(&self) -> Result<(), Overtaken> {
        self.fence.check()
    }

    // These change nothing, and have no way to say no.
    fn now(&self) -> Timestamp {
        self.host.now()
    }

    fn boot_time(&self) -> BootTime {
        self.host.boot_time()
    }

    fn sleep(&self, time: Duration) {
        self.host.sleep(time);
    }

    fn connects(&self, address: &str, port: u16, timeout: Duration) -> bool {
        self.host.connects(address, port, timeout)
    }

    fn prober(&self, target: &Target) -> Box<dyn Prober> {
        self.host.prober(target)
    }

    fn ask(&self, url: &str, timeout: Duration, version: Option<&VersionCheck>) -> HealthAnswer {
        self.host.ask(url, timeout, version)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.host.free_bytes(path)
    }

    fn data_reader<'a>(&'a self, project: &'a str) -> Box<dyn DataReader + 'a> {
        Box::new(FencedReader {
            reader: self.host.data_reader(project),
            fence: &self.fence,
        })
    }

    fn data_writer<'a>(&'a self, project: &'a str) -> Box<dyn DataWriter + 'a> {
        Box::new(FencedWriter {
            writer: self.host.data_writer(project),
            fence: &self.fence,
        })
    }
}

/// Writes data for one engine only.
struct FencedWriter<'a> {
    writer: Box<dyn DataWriter + 'a>,
    fence: &'a Fence,
}

impl DataWriter for FencedWriter<'_> {
    fn set_aside(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError> {
        self.fence.check()?;
        self.writer.set_aside(source, mark)
    }

    fn fill(&self, source: &RestoredSource, feed: Feed<'_>) -> Result<(), ReadError> {
        self.fence.check()?;
        self.writer.fill(source, feed)
    }

    fn check(
        &self,
        source: &RestoredSource,
        mark: &str,
        wanted: &[EntryRecord],
    ) -> Result<(), ReadError> {
        self.fence.check()?;
        self.writer.check(source, mark, wanted)
    }

    fn put_back(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError> {
        self.fence.check()?;
        self.writer.put_back(source, mark)
    }

    fn forget(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError> {
        self.fence.check()?;
        self.writer.forget(source, mark)
    }

    fn sweep(&self) -> Result<(), ReadError> {
        self.fence.check()?;
        self.writer.sweep()
    }
}

/// Reads data for one engine only: reading a volume makes a container for the time that it takes.
struct FencedReader<'a> {
    reader: Box<dyn DataReader + 'a>,
    fence: &'a Fence,
}

impl DataReader for FencedReader<'_> {
    fn read(&self, source: &DataKind, sink: Sink<'_>) -> Result<(), ReadError> {
        self.fence.check()?;
        self.reader.read(source, sink)
    }

    fn size(&self, source: &DataKind) -> Result<u64, ReadError> {
        self.fence.check()?;
        self.reader.size(source)
    }

    fn sweep(&self) -> Result<(), ReadError> {
        self.fence.check()?;
        self.reader.sweep()
    }

    fn may_publish(&self) -> Result<(), ReadError> {
        Ok(self.fence.check()?)
    }

    fn logs(&self, source: &LogSource, most: u64) -> Result<Vec<u8>, ReadError> {
        self.fence.check()?;
        self.reader.logs(source, most)
    }
}
