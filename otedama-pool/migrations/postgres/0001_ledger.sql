-- The ledger. Amounts are in the coin's ledger unit, times in milliseconds since 1970, efforts in 32 hex digits.

-- One row. Every writing transaction changes it first, so that they come one after another; it numbers them too.
CREATE TABLE guard (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    last_id BIGINT NOT NULL
);
INSERT INTO guard (id, last_id) VALUES (1, 0);

-- How far each node's spool has been consumed.
CREATE TABLE consumed (
    node TEXT NOT NULL PRIMARY KEY,
    next_sequence BIGINT NOT NULL,
    records BIGINT NOT NULL
);

-- Sequences that can no longer come, because a node's spool was lost and replaced by a new one.
CREATE TABLE spool_gaps (
    node TEXT NOT NULL,
    from_sequence BIGINT NOT NULL,
    to_sequence BIGINT NOT NULL,
    PRIMARY KEY (node, from_sequence)
);

-- A coin's round goes on after each block found.
CREATE TABLE rounds (
    coin TEXT NOT NULL PRIMARY KEY,
    round BIGINT NOT NULL
);

-- Shares by miner, slice of time and effort.
CREATE TABLE share_sums (
    coin TEXT NOT NULL,
    round BIGINT NOT NULL,
    slice_ms BIGINT NOT NULL,
    per_share BIGINT NOT NULL,
    miner TEXT NOT NULL,
    effort TEXT NOT NULL,
    shares BIGINT NOT NULL,
    PRIMARY KEY (coin, round, slice_ms, per_share, miner, effort)
);

-- What pay-per-share owes each miner below one unit, in 16 hex digits of 2^-64.
CREATE TABLE carries (
    coin TEXT NOT NULL,
    miner TEXT NOT NULL,
    fraction TEXT NOT NULL,
    PRIMARY KEY (coin, miner)
);

CREATE TABLE blocks (
    coin TEXT NOT NULL,
    hash TEXT NOT NULL,
    height BIGINT NOT NULL,
    finder TEXT NOT NULL,
    found_ms BIGINT NOT NULL,
    round BIGINT NOT NULL,
    reward BIGINT NOT NULL,
    network_effort TEXT NOT NULL,
    scheme TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('submitted', 'unknown', 'accepted', 'confirmed', 'orphaned')),
    confirmations BIGINT NOT NULL,
    credited_by BIGINT NOT NULL,
    PRIMARY KEY (coin, hash)
);
CREATE INDEX blocks_by_state ON blocks (coin, state);

-- What each chain node said to each block.
CREATE TABLE submissions (
    id BIGINT NOT NULL PRIMARY KEY,
    coin TEXT NOT NULL,
    hash TEXT NOT NULL,
    chain_node TEXT NOT NULL,
    verdict TEXT NOT NULL,
    detail TEXT NOT NULL,
    time_ms BIGINT NOT NULL
);
CREATE INDEX submissions_by_block ON submissions (coin, hash);

-- What was booked, why, and only once: no reason comes twice.
CREATE TABLE bookings (
    id BIGINT NOT NULL PRIMARY KEY,
    coin TEXT NOT NULL,
    reason TEXT NOT NULL,
    reference TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    UNIQUE (coin, reason, reference)
);

-- The sums of a booking's entries are zero.
CREATE TABLE entries (
    booking BIGINT NOT NULL REFERENCES bookings (id),
    account TEXT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (booking, account)
);
CREATE INDEX entries_by_account ON entries (account, booking);

-- Derivable from the entries, kept beside them in the same transactions.
CREATE TABLE balances (
    coin TEXT NOT NULL,
    account TEXT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (coin, account)
);

CREATE TABLE payout_batches (
    id BIGINT NOT NULL PRIMARY KEY,
    coin TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('intent', 'signed', 'broadcast', 'confirmed', 'frozen', 'cancelled')),
    txid TEXT NOT NULL,
    raw TEXT NOT NULL,
    network_fee BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX payout_batches_by_state ON payout_batches (coin, state);
CREATE UNIQUE INDEX payout_batches_by_txid ON payout_batches (coin, txid) WHERE txid <> '';

CREATE TABLE payouts (
    batch BIGINT NOT NULL REFERENCES payout_batches (id),
    miner TEXT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (batch, miner)
);
