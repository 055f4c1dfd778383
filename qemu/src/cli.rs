//! The command line: what there is, and what does it.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::output;
use crate::verbs::{
    attack, bench, build, client, conform, disk, doc, docs, figures, filter, fuzz, gdb, lint, load,
    measure, module, new, repro, run, tcb, test, top, trace,
};

/// Exo: an exokernel, a library OS on it, and on that a key-value store.
#[derive(Debug, Parser)]
#[command(name = "cargo exo", bin_name = "cargo exo", version)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    New(new::Args),
    Client(client::Args),
    Disk(disk::Args),
    Conform(conform::Args),
    Test(test::Args),
    Attack(attack::Args),
    Fuzz(fuzz::Args),
    Bench(bench::Args),
    Measure(measure::Args),
    Trace(trace::Args),
    Top(top::Args),
    Gdb(gdb::Args),
    Repro(repro::Args),
    Load(Box<load::Args>),
    Figures(figures::Args),
    Filter(filter::Args),
    Tcb(tcb::Args),
    Module(module::Args),
    Lint(lint::Args),
    Build(build::Args),
    Docs(docs::Args),
    Doc(doc::Args),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.verb {
        None => help(Cli::command().print_help()),
        Some(Verb::Run(args)) => run::run(&args),
        Some(Verb::New(args)) => new::run(&args),
        Some(Verb::Client(args)) => client::run(&args),
        Some(Verb::Disk(args)) => disk::run(&args),
        Some(Verb::Conform(args)) => conform::run(&args),
        Some(Verb::Test(args)) => test::run(&args),
        Some(Verb::Attack(args)) => attack::run(&args),
        Some(Verb::Fuzz(args)) => fuzz::run(&args),
        Some(Verb::Bench(args)) => bench::run(&args),
        Some(Verb::Measure(args)) => measure::run(&args),
        Some(Verb::Trace(args)) => trace::run(&args),
        Some(Verb::Top(args)) => top::run(&args),
        Some(Verb::Gdb(args)) => gdb::run(&args),
        Some(Verb::Repro(args)) => repro::run(&args),
        Some(Verb::Load(args)) => load::run(&args),
        Some(Verb::Figures(args)) => figures::run(&args),
        Some(Verb::Filter(args)) => filter::run(&args),
        Some(Verb::Tcb(args)) => tcb::run(&args),
        Some(Verb::Module(args)) => module::run(&args),
        Some(Verb::Lint(args)) => lint::run(&args),
        Some(Verb::Build(args)) => build::run(&args),
        Some(Verb::Docs(args)) => docs::run(&args),
        Some(Verb::Doc(args)) => doc::run(&args),
    };
    result.unwrap_or_else(|error| output::failure(&error, 1))
}

/// What clap has to say instead of a command line: help that was asked for, or an error.
fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    match error.use_stderr() {
        true => ExitCode::from(code),
        false => help(printed).unwrap_or_else(|error| output::failure(&error, 1)),
    }
}

fn help(printed: std::io::Result<()>) -> anyhow::Result<ExitCode> {
    output::written(printed)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine;

    fn parse(line: &str) -> Result<Verb, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.verb.expect("no verb"))
    }

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_and_option_has_help() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                let help = argument.get_help().is_some();
                assert!(help, "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn no_verb_is_hidden() {
        let command = Cli::command();
        let hidden: Vec<_> = command.get_subcommands().filter(|verb| verb.is_hide_set()).collect();
        assert!(hidden.is_empty(), "{hidden:?}");
        for verb in ["build", "doc"] {
            assert!(command.find_subcommand(verb).is_some(), "{verb}");
        }
    }

    #[test]
    fn nothing_is_fine() {
        assert!(Cli::try_parse_from(["exo"]).unwrap().verb.is_none());
    }

    #[test]
    fn run_has_defaults() {
        let Ok(Verb::Run(args)) = parse("exo run") else { panic!() };
        assert_eq!((args.port, args.echo_port, args.memory, args.cpus), (None, None, 128, 1));
        let Ok(Verb::Run(args)) =
            parse("exo run --port 1 --echo-port 0 --accel tcg --memory 1G --cpus 2 --icount --gdb")
        else {
            panic!()
        };
        assert_eq!((args.port, args.echo_port), (Some(1), Some(0)));
        assert_eq!((args.memory, args.cpus), (1024, 2));
        assert!(args.icount && args.gdb == Some(None) && !args.verbose && !args.hosted);
        let Ok(Verb::Run(args)) = parse("exo run --gdb 1300 --verbose") else { panic!() };
        assert!(args.gdb == Some(Some(1300)) && args.verbose);
        let Ok(Verb::Run(args)) = parse("exo run --gdb --verbose") else { panic!() };
        assert!(args.gdb == Some(None) && args.verbose);
        let Ok(Verb::Run(args)) = parse("exo run --hosted --port 1 --cpus 4 -v") else { panic!() };
        assert!(args.hosted && args.cpus == 4);
    }

    #[test]
    fn no_more_is_promised_than_the_kernel_uses() {
        assert_eq!(machine::MAX_CPUS as usize, exo_abi::MAX_CORES);
        let Ok(Verb::Run(args)) = parse("exo run --memory 3G --cpus 4") else { panic!() };
        assert_eq!((args.memory, args.cpus), (machine::MAX_MEMORY, machine::MAX_CPUS));
        let error = parse("exo run --memory 8G").unwrap_err().to_string();
        assert!(error.contains("at most 3072 MiB"), "{error}");
        let Ok(Verb::Attack(args)) = parse("exo attack --cpus 2") else { panic!() };
        assert_eq!(args.cpus, 2);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "exo fly",
            "exo new app",
            "exo new kernel mine",
            "exo run bench --manifest x.toml",
            "exo run bench --app x",
            "exo measure stock --samples 0",
            "exo measure stock --against a --against-app b",
            "exo lint --package root --app x",
            "exo trace --events 0",
            "exo trace --cpus 5",
            "exo top --interval 1",
            "exo gdb --attach 0",
            "exo gdb --attach 1234 --cpus 2",
            "exo run --hosted --pcap file",
            "exo run --port 0",
            "exo run --port 65536",
            "exo run --gdb 0",
            "exo run --memory lots",
            "exo run --memory 0",
            "exo run --cpus 0",
            "exo run --cpus 5",
            "exo run --memory 3073",
            "exo run --memory 8G",
            "exo run --hosted --icount",
            "exo run --hosted --gdb",
            "exo run --hosted --memory 1G",
            "exo attack --cpus 5",
            "exo disk",
            "exo disk dump file",
            "exo run --accel hvf",
            "exo fuzz --cpus 5",
            "exo fuzz --calls 0",
            "exo fuzz --for soon",
            "exo client get",
            "exo client incr k minus",
            "exo client --server nowhere get k",
            "exo client --server localhost:0 get k",
            "exo client set k v --ttl 4294967297",
            "exo client touch k 5000000",
            "exo client flush_all 4294967295",
            "exo test --host-only --guest-only",
            "exo filter explain",
            "exo load --rate 0",
            "exo load --rate 10 --outstanding 5",
            "exo load --search p99",
            "exo load --search p99=1ms --rate 5",
            "exo load --exo --server 127.0.0.1:1",
            "exo load --exo --vhost-user socket",
            "exo load --value-size lots",
            "exo load --get 101",
            "exo load --duration 0",
            "exo load --protocol smtp",
            "exo repro nothing",
            "exo repro dpf --published --full",
            "exo filter match udp",
            "exo filter fuzz frames",
            "exo filter fuzz --jobs 0",
            "exo filter fuzz --replay file",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn client_takes_its_server_anywhere() {
        for line in [
            "exo client --server 127.0.0.1:1 set k v --ttl -1",
            "exo client --server localhost:1 touch k -1",
            "exo client set k -v --server 127.0.0.1:1",
            "exo client cas k v 12",
            "exo client flush_all",
            "exo client incr n",
        ] {
            assert!(matches!(parse(line), Ok(Verb::Client(_))), "{line}");
        }
    }
}
