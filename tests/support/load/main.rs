//! The load generator as a program, for scripts and for a person with a lab host.
//!
//! `load --port P [--rate N] [--seconds S] [--only-stream]` asks what listens on that port of 127.0.0.1 for so long (300
//! requests a second, 30 s) and prints the report as JSON. Exit 1 when a request failed, 2 when there was no load.

// Its output is its interface.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "mod.rs"]
mod load;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use load::{Load, Shape};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let (mut port, mut rate, mut seconds, mut only_stream) = (None, 300, 30, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--only-stream" {
            only_stream = true;
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--port" => port = Some(value.parse()?),
            "--rate" => rate = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            _ => return Err(format!("{name} is not known").into()),
        }
    }
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port.ok_or("--port is missing")?));
    let limit = Duration::from_secs(seconds);
    let shape = match only_stream {
        true => Shape::stream(rate, limit),
        false => Shape {
            rate,
            ..Shape::usual(limit)
        },
    };
    let report = Load::start(addr, shape)?.finish();
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(ExitCode::from(u8::from(report.failed > 0)))
}
