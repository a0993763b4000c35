//! The far link, measured: the product and nginx with wireguard-go in turn, on one emulated link.
//!
//! Node and core are hosts of their own, 100 ms apart; clients are beside the node. Each condition
//! is set when the clients are there, and counted after a while. A table for people goes to
//! standard error, JSON to standard output.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::link::bulk::{body, download};
use antipode_tests::link::condition::{self, Condition, Course, ROUND_TRIP_MS};
use antipode_tests::link::echoes::{Echoes, Figures, Load};
use antipode_tests::link::place::Place;
use antipode_tests::link::stack::{Stack, Stacks};
use antipode_tests::link::table::table;
use antipode_tests::namespaces::{NEED_ROOT, NEED_WIREGUARD, has_root, has_wireguard};
use antipode_tests::report::{progress, result};
use antipode_tests::wan::{Change, Way};
use anyhow::{Context, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};

/// For echoes that are still under way when the clients leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// For sessions that don't flow after a cut.
const FLOW_PATIENCE: Duration = Duration::from_secs(120);
/// For a body of 100 MB, which takes 80 s at 10 Mbit/s.
const BODY_PATIENCE: Duration = Duration::from_secs(400);
/// A download's beginning does not count.
const BULK_WARM: Duration = Duration::from_secs(5);

/// Measures the far link. Needs root; nginx and wireguard-go for the peer.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Only these rows, by name; repeat or separate by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds counted in each row.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seconds that a condition holds before it is counted.
    #[arg(long, default_value_t = 10)]
    warm: u64,
    /// Only the product, not nginx with wireguard-go.
    #[arg(long)]
    without_nginx: bool,
    /// More for the node's configuration file: to compare settings.
    #[arg(long, default_value = "")]
    node_more: String,
    /// More for the core's.
    #[arg(long, default_value = "")]
    core_more: String,
    /// Only be the backend, until killed.
    #[arg(long, hide = true)]
    backend: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.backend {
        let backend = Backend::start(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
        result(&backend.address().to_string());
        return std::future::pending().await;
    }
    ensure!(has_root(), "this needs {NEED_ROOT}");
    let with_nginx = !args.without_nginx;
    ensure!(!with_nginx || has_wireguard(), "this needs {NEED_WIREGUARD}, or --without-nginx");
    let rows = chosen(&args.only)?;
    let place = Place::make()?;
    let more = (args.node_more.clone(), args.core_more.clone());
    let stacks = Stacks::start(&place, with_nginx, more).await?;
    let kinds = if with_nginx { &[Stack::Antipode, Stack::Nginx][..] } else { &[Stack::Antipode] };
    let mut results = Vec::new();
    for condition in &rows {
        for stack in kinds {
            progress(&format!("{}: {}", condition.says, stack.label()));
            let figures = run(&place, &stacks, *stack, condition, &args).await;
            place.clean()?;
            results.push(judged(condition, *stack, figures));
            progress(&table(&results[results.len() - 1..]));
        }
    }
    progress(&table(&results));
    let told = json!({
        "propagation_round_trip_ms": ROUND_TRIP_MS,
        "seconds": args.seconds,
        "warm_seconds": args.warm,
        "cores": std::thread::available_parallelism()?.get(),
        "optimised": !cfg!(debug_assertions),
        "rows": results,
    });
    result(&serde_json::to_string_pretty(&told)?);
    Ok(())
}

fn chosen(only: &[String]) -> anyhow::Result<Vec<Condition>> {
    let all = condition::all();
    let names: Vec<_> = all.iter().map(|one| one.name).collect();
    for name in only {
        ensure!(names.contains(&name.as_str()), "no row {name:?}; there are {names:?}");
    }
    let is_chosen = |one: &Condition| only.is_empty() || only.iter().any(|name| name == one.name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

async fn run(
    place: &Place,
    stacks: &Stacks,
    stack: Stack,
    condition: &Condition,
    args: &Args,
) -> anyhow::Result<Value> {
    let client = stacks.client(stack);
    let set = |change: &Change| place.wan.set(Way::Both, change).context("change the link");
    let (warm, length) = (Duration::from_secs(args.warm), Duration::from_secs(args.seconds));
    match condition.course {
        Course::Echo(load) => {
            let echoes = Echoes::begin(&client, load).await?;
            set(&condition.change)?;
            tokio::time::sleep(warm).await;
            let before = place.packets();
            echoes.count_for(length).await;
            let packets = place.packets() - before;
            let figures = echoes.end(PATIENCE).await;
            let mut told = serde_json::to_value(figures)?;
            told["packets_per_s"] = json!(packets / args.seconds.max(1));
            Ok(told)
        }
        Course::Cut(load, cut) => {
            set(&condition.change)?;
            cut_for(&client, load, cut, &set).await
        }
        Course::Beside(load, bytes) => {
            set(&condition.change)?;
            let alone = Echoes::begin(&client, load).await?;
            tokio::time::sleep(warm).await;
            alone.count_for(length).await;
            beside(&client, (load, bytes), alone.end(PATIENCE).await).await
        }
        Course::Bulk => {
            set(&condition.change)?;
            let speed = download(&client, BULK_WARM, length).await?;
            Ok(json!({ "megabytes_per_s": speed }))
        }
    }
}

async fn cut_for(
    client: &antipode_tests::client::Client,
    load: Load,
    cut: Duration,
    set: &impl Fn(&Change) -> anyhow::Result<()>,
) -> anyhow::Result<Value> {
    let echoes = Echoes::begin(client, load).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    set(&Change { cut: Some(true), ..Change::default() })?;
    tokio::time::sleep(cut).await;
    set(&Change { cut: Some(false), ..Change::default() })?;
    echoes.mark();
    let mut flow = echoes.flow_since_mark(FLOW_PATIENCE).await;
    flow.sort_by(f64::total_cmp);
    // What was due in the cut comes with the rest.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let figures = echoes.end(FLOW_PATIENCE).await;
    Ok(json!({
        "flow_p50_s": flow.get(flow.len() / 2),
        "flow_max_s": flow.last(),
        "missing": figures.missing,
        "duplicated": figures.duplicated,
        "reordered": figures.reordered,
        "ended": figures.ended,
    }))
}

/// Echoes from the beginning of a body to its end, beside those without one.
async fn beside(
    client: &antipode_tests::client::Client,
    (load, bytes): (Load, u64),
    alone: Figures,
) -> anyhow::Result<Value> {
    let echoes = Echoes::begin(client, load).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let took = tokio::select! {
        took = body(client, bytes) => took?,
        () = echoes.count_for(BODY_PATIENCE) => bail!("no body within {BODY_PATIENCE:?}"),
    };
    let beside = echoes.end(PATIENCE).await;
    let mut told = serde_json::to_value(&beside)?;
    told["alone_p50_ms"] = json!(alone.p50_ms);
    told["alone_p99_ms"] = json!(alone.p99_ms);
    told["p99_more_ms"] = json!(beside.p99_ms - alone.p99_ms);
    told["body_s"] = json!(took);
    #[allow(clippy::cast_precision_loss, reason = "a speed")]
    let speed = bytes as f64 / 1e6 / took;
    told["megabytes_per_s"] = json!(speed);
    Ok(told)
}

fn judged(condition: &Condition, stack: Stack, figures: anyhow::Result<Value>) -> Value {
    let (mut verdict, figures) = match figures {
        Ok(figures) => (Vec::new(), figures),
        Err(error) => (vec![format!("failed: {error:#}")], Value::Null),
    };
    for must in &condition.must {
        if let Some(figure) = figures[must.figure].as_f64() {
            let kept = if must.bound.is_kept(figure) { "" } else { "NOT " };
            verdict.push(format!("{kept}{} {}", must.figure, must.bound));
        }
    }
    json!({
        "condition": condition.says,
        "name": condition.name,
        "stack": stack.label(),
        "figures": figures,
        "verdict": verdict.join(", "),
    })
}
