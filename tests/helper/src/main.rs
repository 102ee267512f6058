//! The one program in Larder's test images, which hold nothing else: no shell, no libc. It does, as a container,
//! what a test wants to see done in one: be there, answer, ask, fill a disk, take memory, fail.

mod cli;
mod forward;
mod http;
mod signals;
mod work;

use std::io::{self, Write as _};
use std::process::ExitCode;

use cli::Command;

/// What the arguments ask for is not to be had: 2, as the shell has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(usage) => return complain(&usage, USAGE),
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => complain(&work::describe(&error), 1),
    }
}

fn run(command: Command) -> io::Result<ExitCode> {
    match command {
        Command::Wait => signals::Stop::register()?.wait(),
        Command::Serve { address, text } => {
            let stop = signals::Stop::register()?;
            http::serve(address, text)?;
            stop.wait();
        }
        Command::Forward { address, target } => {
            let stop = signals::Stop::register()?;
            forward::serve(address, target)?;
            stop.wait();
        }
        Command::Allocate { bytes } => {
            let stop = signals::Stop::register()?;
            let memory = work::allocate(bytes)?;
            writeln!(io::stdout(), "allocated {bytes}")?;
            stop.wait();
            drop(memory);
        }
        Command::Get { url, timeout } => {
            let status = work::within(timeout, move || http::get(&url, &mut io::stdout()))?;
            if !(200..300).contains(&status) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Lookup { name, timeout } => {
            for address in work::within(timeout, move || work::lookup(&name))? {
                writeln!(io::stdout(), "{address}")?;
            }
        }
        Command::Connect { address, timeout } => {
            work::within(timeout, move || std::net::TcpStream::connect(&address).map(drop))?;
        }
        Command::Write { path, bytes } => work::write(&path, bytes)?,
        Command::Read { path } => {
            io::copy(&mut std::fs::File::open(path)?, &mut io::stdout())?;
        }
        Command::Exit { code } => return Ok(ExitCode::from(code)),
    }
    Ok(ExitCode::SUCCESS)
}

fn complain(what: &str, code: u8) -> ExitCode {
    // Nobody is left to be told that this could not be written.
    let _ = writeln!(io::stderr(), "helper: {what}");
    ExitCode::from(code)
}
