//! A replica with a command line, over libp2p: in a network of its own kind, or among go-ds-crdt
//! nodes.
//!
//! ```sh
//! cargo run --features libp2p --example node -- --listen /ip4/127.0.0.1/tcp/4001
//! cargo run --features libp2p --example node -- --dial /ip4/127.0.0.1/tcp/4001
//! ```
//!
//! Each is then a prompt: `put /greeting hello` on one, `get /greeting` on the other. `--help` says
//! what can be set, `help` what can be typed. With `--json` it is driven by a program: one command a
//! line on its standard input, one JSON object a line on its standard output, the first of which
//! tells where it listens.

mod command;
mod options;
mod prompt;
mod replica;

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use self::command::Command;
use self::options::Options;
use self::replica::Replica;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("node: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<()> {
    let json = options.json;
    let replica = Replica::open(options).await?;
    let result = if json {
        println!("{}", json!({ "listening": replica.listening().await? }));
        answer_lines(&replica, true).await
    } else {
        for address in replica.listening().await? {
            println!("listening on {address}");
        }
        if std::io::stdin().is_terminal() {
            prompt::run(&replica).await
        } else {
            answer_lines(&replica, false).await
        }
    };
    replica.close().await?;
    result
}

/// Runs the commands that come line by line, until the input ends or says so.
async fn answer_lines(replica: &Replica, json: bool) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let command = line.parse();
        let quit = matches!(command, Ok(Command::Quit));
        let answer = match command {
            Ok(command) => replica.run(command).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) if json => println!("{answer}"),
            Ok(answer) => println!("{}", prompt::readable(&answer)),
            Err(error) if json => println!("{}", json!({ "error": with_causes(&*error) })),
            Err(error) => println!("error: {}", with_causes(&*error)),
        }
        if quit {
            break;
        }
    }
    Ok(())
}

/// What an error says, and its causes.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
