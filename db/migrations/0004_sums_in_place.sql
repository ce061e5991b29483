-- A busy key's sums are updated with each batch. With room in its page, the new
-- row stays there and no index changes.
ALTER TABLE usage_hourly SET (fillfactor = 50);
