-- Two runs of the loader take turns, whichever schedule started them; released with the transaction.
select pg_advisory_xact_lock(hashtextextended('singd-knowledge', 0));
