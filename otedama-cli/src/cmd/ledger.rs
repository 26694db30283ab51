//! `ledger`: what a pool owes, and whether its books are right.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use otedama_pool::accounts::{self, book_blocks, now_ms};
use otedama_pool::coin::{Coin, Kind};
use otedama_pool::config::values::without_password;
use otedama_pool::config::{self, Config};
use otedama_pool::ledger::{Account, Ledger};
use otedama_pool::money::Amount;
use otedama_pool::node::ChainNode;
use otedama_pool::node::bitcoin::BitcoinNode;
use otedama_pool::node::driver::{DriverConfig, NodeGroup};
use otedama_pool::node::ethereum::EthereumNode;
use otedama_pool::node::monero::MoneroNode;
use otedama_pool::payout::Sent;
use otedama_pool::server::trade::MONERO_RESERVE;
use otedama_pool::spool;
use otedama_pool::wallet::{BitcoinWallet, MoneroWallet};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::args::{BooksArgs, LedgerCommand, PayoutsFrom};
use crate::cmd::config::load;
use crate::cmd::serve::chains::{NODE, group_config, known, ledger_url, rules, sources, wallet};
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
        // One that is lost is not touched when it is rebuilt.
        let ledger = Ledger::at(&ledger_url(&config)?).map_err(work)?;
        let outcome = match command {
            LedgerCommand::Show(_) => show_books(&ledger, &coins, books).await,
            LedgerCommand::Check { repair, .. } => check(&ledger, *repair, books).await,
            LedgerCommand::Rebuild { into, payouts, .. } => {
                rebuild(&ledger, &config, &coins, into, *payouts, books).await
            }
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

/// Makes a new ledger: shares from the spool, blocks from the nodes, payouts from the ledger in use or the wallets.
/// Compares its balances with those of the ledger in use.
async fn rebuild(
    ledger: &Ledger,
    config: &Config,
    coins: &[&'static Coin],
    into: &str,
    payouts: PayoutsFrom,
    books: &BooksArgs,
) -> Outcome {
    let (in_use, sent) = match payouts {
        PayoutsFrom::Ledger => (Some(in_use(ledger).await?), Vec::new()),
        PayoutsFrom::Wallet => (None, sent_by_wallets(config, coins, books).await?),
    };
    let folder = config.app.data_dir.join("spool");
    let reader = spool::read_closed(&folder, NODE)
        .map_err(|error| work(format!("{error}; end the pool first if it is running")))?;
    let fresh = Ledger::open(into).await.map_err(work)?;
    let into = without_password(into);
    if !fresh.is_empty().await.map_err(work)? {
        return Err(usage(format!("{into} holds a ledger already: expected one that is new")));
    }
    let incomplete = |error: Failure| work(format!("{error}; {into} is incomplete, remove it"));
    fill(&fresh, config, coins, reader, in_use, sent, books).await.map_err(incomplete)?;
    let differ = compare(&fresh, coins, in_use, books).await?;
    fresh.close().await;
    match (differ, payouts) {
        (0, PayoutsFrom::Ledger) => show::say(
            books.json,
            "both ledgers say the same",
            json!({ "event": "rebuilt", "differences": 0 }),
        ),
        (0, PayoutsFrom::Wallet) => show::say(
            books.json,
            &format!("rebuilt; look at it, then set pool.ledger to {into}"),
            json!({ "event": "rebuilt", "differences": null }),
        ),
        (count, _) => {
            Err(work(format!("{count} accounts differ; {into} holds what spool, chain and payouts say")))
        }
    }
}

/// The ledger in use, which must have taken shares: an empty one knows of no payouts.
async fn in_use(ledger: &Ledger) -> Result<&Ledger, Failure> {
    const LOST: &str = "if the ledger in use is lost, --payouts wallet reads in the wallets what was paid";
    match ledger.position(NODE).await {
        Ok(Some(_)) => Ok(ledger),
        Ok(None) => Err(work(format!("the ledger in use holds no shares; {LOST}"))),
        Err(error) => Err(work(format!("{error}; {LOST}"))),
    }
}

/// What each coin's wallet has sent, in the order of the coins.
async fn sent_by_wallets(
    config: &Config,
    coins: &[&'static Coin],
    books: &BooksArgs,
) -> Result<Vec<Vec<Sent>>, Failure> {
    let mut all = Vec::new();
    for (coin, wanted) in coins.iter().zip(&config.coins) {
        let sent = match (wallet(wanted)?, &coin.kind) {
            (None, _) => {
                let text = format!("{coin} has no wallet: it is taken to have paid nobody");
                show::say(
                    books.json,
                    &text,
                    json!({ "event": "no_wallet", "coin": accounts::ledger_name(coin) }),
                )?;
                Ok(Vec::new())
            }
            (Some(rpc), Kind::Monero { .. }) => MoneroWallet::new(rpc, coin).sent().await,
            (Some(rpc), _) => BitcoinWallet::new(rpc, coin).sent().await,
        };
        all.push(sent.map_err(|error| work(format!("{coin}: {error}")))?);
    }
    Ok(all)
}

/// Fills an empty ledger.
async fn fill(
    fresh: &Ledger,
    config: &Config,
    coins: &[&'static Coin],
    reader: spool::Reader,
    in_use: Option<&Ledger>,
    sent: Vec<Vec<Sent>>,
    books: &BooksArgs,
) -> Outcome {
    if let Some(in_use) = in_use {
        let taken = fresh.take_payouts(in_use).await.map_err(work)?;
        show::say(
            books.json,
            &format!("{taken} payouts taken over from the ledger in use"),
            json!({ "event": "payouts_taken", "payouts": taken }),
        )?;
    }
    let all: Vec<_> =
        coins.iter().zip(&config.coins).map(|(coin, wanted)| rules(config, coin, wanted)).collect();
    let by_name: HashMap<_, _> = all.iter().map(|rules| (rules.coin.clone(), rules.clone())).collect();
    let records = fresh.replay(reader, &by_name).await.map_err(work)?;
    show::say(
        books.json,
        &format!("{records} shares read from the spool"),
        json!({ "event": "replayed", "records": records }),
    )?;
    for ((coin, wanted), rules) in coins.iter().zip(&config.coins).zip(&all) {
        match &coin.kind {
            Kind::Ethereum(chain) => {
                let node = |rpc| EthereumNode::new(rpc, chain);
                ask_nodes(fresh, rules, coin, start(wanted, coin, node)?).await?;
            }
            Kind::Monero { .. } => {
                let node = |rpc| MoneroNode::new(rpc, wanted.address.clone(), MONERO_RESERVE);
                ask_nodes(fresh, rules, coin, start(wanted, coin, node)?).await?;
            }
            _ => {
                ask_nodes(fresh, rules, coin, start(wanted, coin, |rpc| BitcoinNode::new(rpc, coin))?).await?
            }
        }
    }
    for ((coin, wanted), sent) in coins.iter().zip(&config.coins).zip(sent) {
        let rules = accounts::payout_rules(coin, &wanted.payout).map_err(usage)?;
        let booked = fresh.book_sent(&rules, sent).await.map_err(work)?;
        show::say(
            books.json,
            &format!("{coin}: {booked} payouts read from its wallet"),
            json!({ "event": "payouts_read", "coin": rules.coin, "payouts": booked }),
        )?;
    }
    Ok(())
}

/// Says what the new ledger holds, and how many balances the ledger in use has otherwise.
async fn compare(
    fresh: &Ledger,
    coins: &[&'static Coin],
    in_use: Option<&Ledger>,
    books: &BooksArgs,
) -> Result<usize, Failure> {
    let mut differ = 0;
    for coin in coins {
        let name = accounts::ledger_name(coin);
        let new = fresh.balances(&name).await.map_err(work)?;
        let old = match in_use {
            Some(in_use) => in_use.balances(&name).await.map_err(work)?,
            None => new.clone(),
        };
        for account in new.keys().chain(old.keys().filter(|account| !new.contains_key(*account))) {
            let of = |books: &BTreeMap<Account, Amount>| books.get(account).copied().unwrap_or_default();
            let (new, old) = (of(&new), of(&old));
            differ += usize::from(new != old);
            let but = if new == old {
                String::new()
            } else {
                format!(", but {} in the ledger in use", old.to_decimal(coin.decimals))
            };
            let text = format!("{coin} {account}: {}{but}", new.to_decimal(coin.decimals));
            let object = json!({
                "event": "balance", "coin": name, "account": account.to_string(), "rebuilt": new.units(),
                "in_use": in_use.map(|_| old.units()),
            });
            show::say(books.json, &text, object)?;
        }
    }
    Ok(differ)
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
