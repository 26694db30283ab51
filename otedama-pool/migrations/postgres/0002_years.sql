-- A year has hundreds of millions of share sums: the window of PPLNS is found by time, whatever the rounds.
CREATE INDEX share_sums_by_time ON share_sums (coin, per_share, slice_ms, round);
