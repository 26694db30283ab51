//! `ledger`: what a pool owes, and whether its books are right.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use otedama_pool::accounts::{self, book_blocks, now_ms};
use otedama_pool::coin::{Coin, Kind};
use otedama_pool::config::{self, Config};
use otedama_pool::ledger::{Account, Ledger};
use otedama_pool::money::Amount;
use otedama_pool::node::ChainNode;
use otedama_pool::node::bitcoin::BitcoinNode;
use otedama_pool::node::driver::{DriverConfig, NodeGroup};
use otedama_pool::node::ethereum::EthereumNode;
use otedama_pool::node::monero::MoneroNode;
use otedama_pool::server::trade::MONERO_RESERVE;
use otedama_pool::spool;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::args::{BooksArgs, LedgerCommand};
use crate::cmd::config::load;
use crate::cmd::serve::chains::{NODE, group_config, known, ledger_url, rules, sources};
use crate::failure::{Failure, Outcome, usage, work};
use crate::show;

/// How long nodes may take until one of them can be asked.
const NODES_WAKE: Duration = Duration::from_secs(30);

pub(crate) fn run(command: &LedgerCommand) -> Outcome {
    let (LedgerCommand::Show(books)
    | LedgerCommand::Check { books, .. }
    | LedgerCommand::Rebuild { books, .. }
    | LedgerCommand::GiveBack { books, .. }) = command;
    let config = load(&books.config, &books.set)?;
    let coins = config.coins.iter().map(known).collect::<Result<Vec<_>, _>>()?;
    let runtime = Runtime::new()?;
    let _inside = runtime.enter();
    runtime.block_on(async {
        let ledger = Ledger::open(&ledger_url(&config)?).await.map_err(work)?;
        let outcome = match command {
            LedgerCommand::Show(_) => show_books(&ledger, &coins, books).await,
            LedgerCommand::Check { repair, .. } => check(&ledger, *repair, books).await,
            LedgerCommand::Rebuild { into, .. } => rebuild(&ledger, &config, &coins, into, books).await,
            LedgerCommand::GiveBack { batch, yes, .. } => give_back(&ledger, *batch, *yes, books).await,
        };
        ledger.close().await;
        outcome
    })
}

async fn show_books(ledger: &Ledger, coins: &[&'static Coin], books: &BooksArgs) -> Outcome {
    let mut all = Vec::new();
    for coin in coins {
        let (name, places) = (accounts::ledger_name(coin), coin.decimals);
        let balances = ledger.balances(&name).await.map_err(work)?;
        let blocks = ledger.blocks(&name).await.map_err(work)?;
        let batches = ledger.payout_batches(&name).await.map_err(work)?;
        let shares = ledger.share_counts(&name).await.map_err(work)?;
        if books.json {
            all.push(json!({
                "coin": name,
                "unit": format!("10^-{places} {}", coin.ticker),
                "balances": amounts(&balances),
                "shares": shares,
                "blocks": blocks.iter().map(|block| json!({
                    "height": block.height, "hash": block.hash.to_display_hex(), "finder": block.finder,
                    "reward": block.reward.units(), "state": block.state.to_string(),
                    "confirmations": block.confirmations,
                })).collect::<Vec<_>>(),
                "payouts": batches.iter().map(|batch| json!({
                    "batch": batch.id, "state": batch.state, "txid": batch.txid, "amount": batch.amount.units(),
                    "recipients": batch.recipients, "network_fee": batch.network_fee.units(), "detail": batch.detail,
                })).collect::<Vec<_>>(),
            }));
            continue;
        }
        show::print_line(&format!("{coin} ({})", coin.ticker))?;
        let mut table = show::table(&["account", "balance", "shares"]);
        for (account, amount) in &balances {
            let count = match account {
                Account::Miner(miner) => shares.get(miner).map_or(String::new(), u64::to_string),
                _ => String::new(),
            };
            table.add_row([account.to_string(), amount.to_decimal(places), count]);
        }
        // Miners whose shares have brought nothing yet.
        for (miner, count) in &shares {
            if !balances.contains_key(&Account::Miner(miner.clone())) {
                table.add_row([format!("miner:{miner}"), Amount::ZERO.to_decimal(places), count.to_string()]);
            }
        }
        show::print_table(&table)?;
        let mut table = show::table(&["block", "state", "confirmations", "reward", "finder", "hash"]);
        for block in &blocks {
            table.add_row([
                block.height.to_string(),
                block.state.to_string(),
                block.confirmations.to_string(),
                block.reward.to_decimal(places),
                block.finder.clone(),
                block.hash.to_display_hex(),
            ]);
        }
        show::print_line("")?;
        show::print_table(&table)?;
        let mut table =
            show::table(&["payout", "state", "recipients", "amount", "network fee", "transaction"]);
        for batch in &batches {
            let state = if batch.detail.is_empty() {
                batch.state.clone()
            } else {
                format!("{}: {}", batch.state, batch.detail)
            };
            table.add_row([
                batch.id.to_string(),
                state,
                batch.recipients.to_string(),
                batch.amount.to_decimal(places),
                batch.network_fee.to_decimal(places),
                batch.txid.clone(),
            ]);
        }
        show::print_line("")?;
        show::print_table(&table)?;
    }
    if books.json {
        show::print_json(&json!({ "coins": all }))?;
    }
    Ok(())
}

async fn check(ledger: &Ledger, repair: bool, books: &BooksArgs) -> Outcome {
    let differences = ledger.check_balances(repair).await.map_err(work)?;
    for difference in &differences {
        let text = format!(
            "{} {}: the balance says {}, its entries sum to {}",
            difference.coin, difference.account, difference.kept, difference.derived
        );
        let object = json!({
            "event": "difference", "coin": difference.coin, "account": difference.account.to_string(),
            "kept": difference.kept.units(), "derived": difference.derived.units(),
        });
        show::say(books.json, &text, object)?;
    }
    match (differences.len(), repair) {
        (0, _) => {
            show::say(books.json, "the books are right", json!({ "event": "checked", "differences": 0 }))
        }
        (count, true) => show::say(
            books.json,
            &format!("{count} balances set to what their entries say"),
            json!({ "event": "repaired", "differences": count }),
        ),
        (count, false) => {
            Err(work(format!("{count} differences; --repair sets balances to what their entries say")))
        }
    }
}

/// Reads the whole spool into an empty ledger, asks the nodes about its blocks, and compares what everybody has
/// earned with the ledger in use.
async fn rebuild(
    ledger: &Ledger,
    config: &Config,
    coins: &[&'static Coin],
    into: &str,
    books: &BooksArgs,
) -> Outcome {
    let folder = config.app.data_dir.join("spool");
    let reader = spool::read_closed(&folder, NODE)
        .map_err(|error| work(format!("{error}; end the pool first if it is running")))?;
    let fresh = Ledger::open(into).await.map_err(work)?;
    if fresh.position(NODE).await.map_err(work)?.is_some() {
        return Err(usage(format!("{into} holds shares already: expected a ledger that is new")));
    }
    let all: Vec<_> =
        coins.iter().zip(&config.coins).map(|(coin, wanted)| rules(config, coin, wanted)).collect();
    let by_name: HashMap<_, _> = all.iter().map(|rules| (rules.coin.clone(), rules.clone())).collect();
    let records = fresh.replay(reader, &by_name).await.map_err(work)?;
    show::say(
        books.json,
        &format!("{records} shares read from {}", folder.display()),
        json!({ "event": "replayed", "records": records }),
    )?;
    let mut differ = 0;
    for (coin, wanted) in coins.iter().zip(&config.coins) {
        let rules = &by_name[&accounts::ledger_name(coin)];
        match &coin.kind {
            Kind::Ethereum(chain) => {
                let node = |rpc| EthereumNode::new(rpc, chain);
                ask_nodes(&fresh, rules, coin, start(wanted, coin, node)?).await?;
            }
            Kind::Monero { .. } => {
                let node = |rpc| MoneroNode::new(rpc, wanted.address.clone(), MONERO_RESERVE);
                ask_nodes(&fresh, rules, coin, start(wanted, coin, node)?).await?;
            }
            _ => {
                ask_nodes(&fresh, rules, coin, start(wanted, coin, |rpc| BitcoinNode::new(rpc, coin))?)
                    .await?
            }
        }
        let (new, old) = (earned(&fresh, coin).await?, earned(ledger, coin).await?);
        for account in new.keys().chain(old.keys().filter(|account| !new.contains_key(*account))) {
            let of = |books: &BTreeMap<Account, Amount>| books.get(account).copied().unwrap_or_default();
            let (new, old) = (of(&new), of(&old));
            let same = new == old;
            differ += usize::from(!same);
            let text = format!(
                "{coin} {account}: {} earned{}",
                new.to_decimal(coin.decimals),
                if same {
                    String::new()
                } else {
                    format!(", but {} in the ledger in use", old.to_decimal(coin.decimals))
                }
            );
            let object = json!({
                "event": "earned", "coin": rules.coin, "account": account.to_string(), "rebuilt": new.units(),
                "in_use": old.units(),
            });
            show::say(books.json, &text, object)?;
        }
    }
    fresh.close().await;
    match differ {
        0 => show::say(
            books.json,
            "both ledgers say the same",
            json!({ "event": "rebuilt", "differences": 0 }),
        ),
        count => Err(work(format!("{count} accounts differ; {into} holds what the spool says"))),
    }
}

fn start<N: ChainNode>(
    wanted: &config::Coin,
    coin: &Coin,
    node: impl Fn(otedama_pool::node::rpc::Rpc) -> N,
) -> Result<Arc<NodeGroup<N>>, Failure> {
    let group = group_config(coin);
    Ok(Arc::new(NodeGroup::start(sources(wanted, node)?, DriverConfig { group, ..DriverConfig::default() })))
}

async fn ask_nodes<N: ChainNode>(
    ledger: &Ledger,
    rules: &otedama_pool::ledger::CoinRules,
    coin: &Coin,
    group: Arc<NodeGroup<N>>,
) -> Outcome {
    let mut templates = group.templates();
    let awake = tokio::time::timeout(NODES_WAKE, templates.wait_for(Option::is_some)).await;
    if !matches!(awake, Ok(Ok(_))) {
        return Err(work(format!(
            "none of {coin}'s nodes can say what became of its blocks; start one and try again"
        )));
    }
    book_blocks(ledger, rules, &group, now_ms()).await.map_err(work).map(|_| ())
}

async fn earned(ledger: &Ledger, coin: &Coin) -> Result<BTreeMap<Account, Amount>, Failure> {
    ledger.earned(&accounts::ledger_name(coin)).await.map_err(work)
}

async fn give_back(ledger: &Ledger, batch: i64, yes: bool, books: &BooksArgs) -> Outcome {
    if !yes {
        return Err(usage(format!(
            "batch {batch} would be owed again: make sure that its transaction can never be mined, then add --yes"
        )));
    }
    ledger.give_back(batch, now_ms()).await.map_err(work)?;
    show::say(
        books.json,
        &format!("batch {batch} is cancelled, its amounts are owed again"),
        json!({ "event": "given_back", "batch": batch }),
    )
}

fn amounts(balances: &BTreeMap<Account, Amount>) -> Value {
    balances.iter().map(|(account, amount)| (account.to_string(), json!(amount.units()))).collect()
}
