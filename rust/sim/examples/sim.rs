//! Runs the simulator from Rust: `sim [--port P] [--control-port C] [--sessions N] [--tls] [--directory D]`.
//!
//! Prints one JSON line and serves until the control port says quit.

use std::path::PathBuf;

use runner_sim::{Options, Simulator};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::new(PathBuf::from("var/sim"));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--port" => options.port = value()?.parse()?,
            "--control-port" => options.control_port = value()?.parse()?,
            "--sessions" => options.sessions = value()?.parse()?,
            "--directory" => options.directory = value()?.into(),
            "--seed" => options.seed = value()?.parse()?,
            "--accept-anybody" => options.settings.accept_anybody = true,
            "--tls" => options.tls = true,
            other => return Err(format!("no option {other}").into()),
        }
    }
    let simulator = Simulator::start(options)?;
    #[allow(clippy::print_stdout, reason = "the one line that says where it is")]
    {
        println!("{}", simulator.info());
    }
    simulator.wait()?;
    Ok(())
}
