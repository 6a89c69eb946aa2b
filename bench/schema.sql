-- The results database. bench/stats/leaderboard.py computes every number in `results`, `comparisons` and `fits`.
-- Units are in the names. NULL means not measured, or withheld for the reason in a note column (tail_note for percentiles).

CREATE TABLE IF NOT EXISTS runs (
    run_id          VARCHAR PRIMARY KEY,
    campaign_id     VARCHAR NOT NULL,
    experiment_hash VARCHAR NOT NULL,
    measured_at     TIMESTAMPTZ NOT NULL,
    ended_at        TIMESTAMPTZ,
    machine_id      VARCHAR NOT NULL,
    machine         VARCHAR NOT NULL,      -- one line for people: CPU, cores, memory
    model           VARCHAR NOT NULL,
    weights         VARCHAR NOT NULL,      -- wheel | folder | hub | synthetic
    corpus          VARCHAR NOT NULL,
    seed            BIGINT NOT NULL,
    budget_s        DOUBLE,
    command         VARCHAR NOT NULL,
    code_commit     VARCHAR,
    code_dirty      BOOLEAN,
    complete        BOOLEAN NOT NULL,      -- run with the whole catalogue of its time, and every framework has a row
    run_json        JSON NOT NULL,
    machine_json    JSON NOT NULL
);

CREATE TABLE IF NOT EXISTS arms (
    run_id          VARCHAR NOT NULL,
    arm_id          VARCHAR NOT NULL,
    framework       VARCHAR NOT NULL,
    language        VARCHAR NOT NULL,
    precision       VARCHAR NOT NULL,
    variant         VARCHAR NOT NULL,
    sessions        INTEGER NOT NULL,
    threads         INTEGER NOT NULL,
    role            VARCHAR NOT NULL,      -- measured | floor | twin | slow | stall
    artefact_hash   VARCHAR,
    version_json    JSON,                  -- the worker's answer to --version
    settings_json   JSON,                  -- settings as the worker read them back from its runtime
    knobs_json      JSON,                  -- knobs that the variant sets: {knob: value}
    headline        BOOLEAN,               -- the arm that stands for its framework in a precision without a default variant
    note            VARCHAR,               -- description of the variant; of tuned settings, who chose them
    PRIMARY KEY (run_id, arm_id)
);

-- One row per process start.
CREATE TABLE IF NOT EXISTS starts (
    run_id VARCHAR NOT NULL, arm_id VARCHAR NOT NULL, start INTEGER NOT NULL,
    spawn_ns BIGINT, load_ns BIGINT, first_ns BIGINT, second_ns BIGINT,
    load_pss_bytes BIGINT, rss_bytes BIGINT, peak_rss_bytes BIGINT, -- when the worker reports ready, after two calls on one short row
    first_pss_bytes BIGINT,                -- after its first warm-up, which are requests of a plan
    page_cache VARCHAR,                    -- cold (artefact and library evicted before the start, and verified) | warm | unknown
    page_cache_note VARCHAR,               -- why a start that was meant to be cold is not
    PRIMARY KEY (run_id, arm_id, start)
);

CREATE TABLE IF NOT EXISTS blocks (
    run_id VARCHAR NOT NULL, scenario VARCHAR NOT NULL, block INTEGER NOT NULL,
    started_at TIMESTAMPTZ NOT NULL, ended_at TIMESTAMPTZ NOT NULL, noisy BOOLEAN NOT NULL, note VARCHAR,
    -- the whole machine during the block; NULL if the machine has no such counter (machine.json, `instruments`, says why)
    steal_ns BIGINT, throttled_ns BIGINT, throttled_periods BIGINT, swapped_out_pages BIGINT, pressure_cpu_some_us BIGINT,
    pressure_memory_some_us BIGINT, pressure_memory_full_us BIGINT, pressure_io_some_us BIGINT, pressure_io_full_us BIGINT,
    PRIMARY KEY (run_id, scenario, block)
);

-- The samples that the statistics used, no more and no fewer.
CREATE TABLE IF NOT EXISTS samples (
    run_id VARCHAR NOT NULL, arm_id VARCHAR NOT NULL, scenario VARCHAR NOT NULL,
    block INTEGER NOT NULL, slice INTEGER NOT NULL, request INTEGER NOT NULL, tokens INTEGER NOT NULL,
    due_ns BIGINT NOT NULL, start_ns BIGINT NOT NULL, end_ns BIGINT NOT NULL,
    preprocess_ns BIGINT,                  -- tokenising, or image decoding and resizing, of this request; measured separately
    cosine DOUBLE, max_abs_diff DOUBLE     -- this request's vector compared with the fp32 reference
);

CREATE TABLE IF NOT EXISTS results (
    run_id VARCHAR NOT NULL, campaign_id VARCHAR NOT NULL, arm_id VARCHAR NOT NULL, role VARCHAR NOT NULL,
    measured_at TIMESTAMPTZ NOT NULL, machine_id VARCHAR NOT NULL, machine VARCHAR NOT NULL,
    model VARCHAR NOT NULL, weights VARCHAR NOT NULL, framework VARCHAR NOT NULL, framework_version VARCHAR,
    language VARCHAR NOT NULL, precision VARCHAR NOT NULL, variant VARCHAR NOT NULL, sessions INTEGER NOT NULL, threads INTEGER NOT NULL,
    scenario VARCHAR NOT NULL, served_scenario VARCHAR, clients INTEGER, rate_per_s DOUBLE, batch INTEGER,
    blocks INTEGER, noisy_blocks INTEGER, n BIGINT, n_eff DOUBLE, errors BIGINT,
    mean_ms DOUBLE, stdev_ms DOUBLE, max_ms DOUBLE, p50_ms DOUBLE, p90_ms DOUBLE, p95_ms DOUBLE, p99_ms DOUBLE, p999_ms DOUBLE,
    p50_lo_ms DOUBLE, p50_hi_ms DOUBLE, p99_lo_ms DOUBLE, p99_hi_ms DOUBLE, tail_note VARCHAR,
    service_p50_ms DOUBLE, wait_p50_ms DOUBLE, preprocess_p50_ms DOUBLE, text_p50_ms DOUBLE,
    requests_per_s DOUBLE, requests_per_s_lo DOUBLE, requests_per_s_hi DOUBLE, embeddings_per_s DOUBLE, tokens_per_s DOUBLE,
    token_share DOUBLE,                    -- useful tokens over computed ones, which include padding (tokens_per_s counts useful ones)
    -- open loop: rho is the offered load (rate × service time per request; above 1 the backlog grows), late_p99_ms how late a free session
    -- takes a due request, little_error |L − λW| / L of Little's law (from 500 requests on)
    rho DOUBLE, late_p99_ms DOUBLE, little_error DOUBLE,
    -- SLO search: the latency limit; rate_per_s is the largest rate that keeps it, slo_fails_per_s the smallest tried rate that does not
    slo_ms DOUBLE, slo_fails_per_s DOUBLE,
    -- starts: medians. cold_*: with an empty page cache (cold_note: why there is none). start_to_first: process start to first vector
    load_ms DOUBLE, first_ms DOUBLE, second_ms DOUBLE, start_to_first_ms DOUBLE, cold_load_ms DOUBLE, cold_start_to_first_ms DOUBLE,
    cold_note VARCHAR,
    -- memory: peak_rss is the highest VmHWM of a block (reset at its start), load_peak_rss the peak while loading; the rest are medians
    -- over the ends of blocks
    peak_rss_bytes BIGINT, load_peak_rss_bytes BIGINT,
    rss_bytes BIGINT, rss_anon_bytes BIGINT, rss_file_bytes BIGINT, rss_shmem_bytes BIGINT,
    pss_load_bytes BIGINT, pss_first_bytes BIGINT, pss_bytes BIGINT, swap_bytes BIGINT, os_threads INTEGER,
    -- counted during slices: per 1 000 embeddings, or in percent of the wall time of one CPU
    cpu_percent DOUBLE, cpu_s_per_1000 DOUBLE, voluntary_switches_per_1000 DOUBLE, involuntary_switches_per_1000 DOUBLE,
    minor_faults_per_1000 DOUBLE, major_faults_per_1000 DOUBLE, steal_percent DOUBLE, throttled_percent DOUBLE,
    energy_j_per_1000 DOUBLE, energy_note VARCHAR, -- by RAPL, packages and their memory; energy_note: why there is none
    artefact_bytes BIGINT, library_bytes BIGINT, binary_bytes BIGINT, footprint_note VARCHAR, -- on disk; the note names what is left out
    min_cosine DOUBLE, mean_cosine DOUBLE, max_abs_diff DOUBLE,
    quality DOUBLE, quality_lo DOUBLE, quality_hi DOUBLE, quality_metric VARCHAR, -- ratio of nDCG@10 to fp32's; NULL without real weights
    top10_overlap DOUBLE,                  -- mean overlap of the ten best documents with fp32's, over all retrieval queries
    precision_note VARCHAR,                -- instructions that the precision needs and this CPU lacks
    compile_ms DOUBLE,                     -- compilation once per model, version and CPU, before the first load
    ratio_to_best DOUBLE, ratio_lo DOUBLE, ratio_hi DOUBLE, rank_lo INTEGER, rank_hi INTEGER, tie_group INTEGER,
    ranked BOOLEAN NOT NULL, rank_note VARCHAR,
    status VARCHAR NOT NULL, reason VARCHAR, plan_hash VARCHAR, artefact_hash VARCHAR, stats_version INTEGER NOT NULL,
    PRIMARY KEY (run_id, arm_id, scenario)
);

-- Every compared pair of arms: ratio of A to B in the named quantity, oriented so that above 1 A is better.
CREATE TABLE IF NOT EXISTS comparisons (
    run_id VARCHAR NOT NULL, scenario VARCHAR NOT NULL, arm_a VARCHAR NOT NULL, arm_b VARCHAR NOT NULL,
    quantity VARCHAR NOT NULL, blocks INTEGER NOT NULL, ratio DOUBLE, ratio_lo DOUBLE, ratio_hi DOUBLE,
    p_value DOUBLE, p_holm DOUBLE, verdict VARCHAR NOT NULL, note VARCHAR, stats_version INTEGER NOT NULL,
    PRIMARY KEY (run_id, scenario, arm_a, arm_b)
);

-- Checks besides those of timed requests: hard inputs, repeats, batch equals single, and others.
CREATE TABLE IF NOT EXISTS checks (
    run_id VARCHAR NOT NULL, arm_id VARCHAR NOT NULL, name VARCHAR NOT NULL,
    n BIGINT, value DOUBLE, lo DOUBLE, hi DOUBLE, held BOOLEAN, detail VARCHAR,
    PRIMARY KEY (run_id, arm_id, name)
);

-- Fitted numbers about one arm in one scenario: the terms of the curve of time over length L (base_ms, per_token_us, per_token2_ns:
-- time = base + per_token·L + per_token2·L²), and new_shape_ratio: the time of a length new to the process over that of a known one.
CREATE TABLE IF NOT EXISTS fits (
    run_id VARCHAR NOT NULL, scenario VARCHAR NOT NULL, arm_id VARCHAR NOT NULL, term VARCHAR NOT NULL, unit VARCHAR NOT NULL,
    blocks INTEGER NOT NULL, value DOUBLE, lo DOUBLE, hi DOUBLE, note VARCHAR, stats_version INTEGER NOT NULL,
    PRIMARY KEY (run_id, scenario, arm_id, term)
);

-- The quality of an arm's vectors: nDCG@10 and top-10 overlap per set and over all sets, Spearman correlation with human scores. `kept` is
-- the ratio to fp32 on the same items. `held` is false if the lower end of its interval is below 99 %, NULL if that is not judged.
CREATE TABLE IF NOT EXISTS quality (
    run_id VARCHAR NOT NULL, arm_id VARCHAR NOT NULL, measure VARCHAR NOT NULL, quality_set VARCHAR NOT NULL,
    n BIGINT NOT NULL, value DOUBLE, reference DOUBLE, kept DOUBLE, kept_lo DOUBLE, kept_hi DOUBLE, held BOOLEAN, note VARCHAR,
    PRIMARY KEY (run_id, arm_id, measure, quality_set)
);

-- Swapping arms without re-indexing: an index of the run's probe set built by `built_arm` and queried by `asked_arm`; the arm `reference`
-- is the fp32 Embedder. verdict: yes (the same documents come back), nearly (other documents of equal nDCG do), re-index.
CREATE TABLE IF NOT EXISTS swaps (
    run_id VARCHAR NOT NULL, built_arm VARCHAR NOT NULL, asked_arm VARCHAR NOT NULL, queries BIGINT NOT NULL,
    overlap DOUBLE NOT NULL, overlap_lo DOUBLE, ndcg DOUBLE, ndcg_kept DOUBLE, ndcg_kept_lo DOUBLE, verdict VARCHAR NOT NULL,
    PRIMARY KEY (run_id, built_arm, asked_arm)
);

-- The views and macros below are what reports and pages read. tests/store/test_views.py holds each against a computation in Python.

CREATE OR REPLACE VIEW leaderboard AS SELECT * FROM results;

-- Rows of measured arms that passed the correctness gate: their times may be shown and compared.
CREATE OR REPLACE VIEW measured AS SELECT * FROM leaderboard WHERE role = 'measured' AND status IN ('OK', 'PARTIAL');

-- The rows that are shown now. Per machine × model × weights × precision × scenario those of the newest complete run in which some arm was
-- tried (a run whose arms were all SKIPPED or NOT_APPLICABLE hides no older one), else those of the newest complete run. Without a complete
-- run the newest row of each arm; run_complete is then false. Rows of single knobs are not among them.
CREATE OR REPLACE VIEW current_results AS
WITH candidates AS (
    SELECT results.*, runs.complete AS run_complete,
           bool_or(results.role = 'measured' AND results.status NOT IN ('SKIPPED', 'NOT_APPLICABLE'))
               OVER (PARTITION BY results.run_id, results.precision, results.scenario) AS tried
    FROM results JOIN runs USING (run_id)
    WHERE results.variant NOT LIKE 'knob:%'
), newest AS (
    SELECT machine_id, model, weights, precision, scenario,
           coalesce(max({moment: measured_at, run_id: run_id}) FILTER (run_complete AND tried),
                    max({moment: measured_at, run_id: run_id}) FILTER (run_complete)).run_id AS newest_run
    FROM candidates GROUP BY ALL
)
SELECT candidates.* EXCLUDE (tried)
FROM candidates JOIN newest USING (machine_id, model, weights, precision, scenario)
WHERE newest_run IS NULL OR run_id = newest_run
QUALIFY newest_run IS NOT NULL OR measured_at = max(measured_at) OVER (
    PARTITION BY machine_id, model, weights, precision, scenario, framework, variant, sessions, threads, role);

-- Those of complete runs alone.
CREATE OR REPLACE VIEW current_leaderboard AS SELECT * EXCLUDE (run_complete) FROM current_results WHERE run_complete;

-- Each comparison from both sides: arm_id over other_id.
CREATE OR REPLACE VIEW comparisons_both_ways AS
SELECT run_id, scenario, arm_a AS arm_id, arm_b AS other_id, blocks, quantity, note, ratio_lo, ratio, ratio_hi, verdict FROM comparisons
UNION ALL
SELECT run_id, scenario, arm_b, arm_a, blocks, quantity, note, 1 / ratio_hi, 1 / ratio, 1 / ratio_lo,
       CASE verdict WHEN 'slower' THEN 'faster' WHEN 'faster' THEN 'slower' ELSE verdict END
FROM comparisons;

-- The noise floor of a run and scenario: the widest 95 % interval of the ratio of two copies of one worker (twins).
CREATE OR REPLACE VIEW noise_floor AS
SELECT comparisons.run_id, scenario, least(min(ratio_lo), 1 / max(ratio_hi)) AS lo, greatest(max(ratio_hi), 1 / min(ratio_lo)) AS hi
FROM comparisons JOIN arms ON arms.run_id = comparisons.run_id AND arms.arm_id = arm_a
WHERE role = 'twin' AND ratio_lo > 0
GROUP BY comparisons.run_id, scenario;

-- The distribution of service time: the nearest-rank quantiles 0, 0.005, …, 1 of n requests. (Decimals, because 200 × 0.545 is not 109 in
-- floating point.)
CREATE OR REPLACE VIEW service_quantiles AS
SELECT run_id, arm_id, scenario, n, unnest(range(0, 201)) / 200 AS share, unnest(quantiles) AS service_ms
FROM (
    SELECT run_id, arm_id, scenario, count(*) AS n,
           quantile_disc((end_ns - start_ns) / 1e6, list_transform(range(0, 201), lambda i: (i * 0.005)::DECIMAL(4, 3))) AS quantiles
    FROM samples GROUP BY ALL);

-- Time per row by the shape of a call, over all loads without an arrival rate: the median of (duration of the call / its rows) over at
-- least 3 calls. batch: rows of the call; up_to_tokens: its longest row, rounded up to a power of two from 16 on.
CREATE OR REPLACE VIEW shape_times AS
WITH calls AS (
    SELECT run_id, arm_id, count(*) AS batch, 2 ** ceil(log2(greatest(max(tokens), 16))) AS up_to_tokens,
           max(end_ns - start_ns) / 1e6 / count(*) AS row_ms
    FROM samples JOIN measured USING (run_id, arm_id, scenario)
    WHERE measured.rate_per_s IS NULL AND scenario NOT LIKE 'slo%'
    GROUP BY run_id, arm_id, scenario, block, slice, start_ns
)
SELECT run_id, arm_id, batch::INTEGER AS batch, up_to_tokens::INTEGER AS up_to_tokens, count(*) AS calls, median(row_ms) AS ms_per_row
FROM calls GROUP BY ALL HAVING count(*) >= 3;

-- The same of some arms beside each other, in the shapes that all of them served; of an arm in several runs the newest.
-- share_of_best: the shortest time of these arms over this one's.
CREATE OR REPLACE MACRO shapes_compared(of_runs, of_arms) AS TABLE
WITH newest AS (
    SELECT shape_times.* FROM shape_times JOIN runs USING (run_id)
    WHERE list_contains(of_runs, run_id) AND list_contains(of_arms, arm_id)
    QUALIFY row_number() OVER (PARTITION BY arm_id, batch, up_to_tokens ORDER BY measured_at DESC, run_id DESC) = 1
), common AS (
    SELECT batch, up_to_tokens FROM newest GROUP BY ALL HAVING count(*) = len(list_distinct(of_arms))
)
SELECT *, min(ms_per_row) OVER (PARTITION BY batch, up_to_tokens) / ms_per_row AS share_of_best
FROM newest SEMI JOIN common USING (batch, up_to_tokens);

-- Some arms under one load: rows per second against the quality kept, which is 1 in the reference precision.
-- on_front: no other of these arms is at least as good in both and better in one.
CREATE OR REPLACE MACRO speed_and_quality(of_runs, of_arms, of_scenario, reference_precision) AS TABLE
WITH points AS (
    SELECT framework, arm_id, precision, variant, requests_per_s AS rows_per_s, artefact_bytes, peak_rss_bytes,
           CASE precision WHEN reference_precision THEN 1.0 ELSE quality END AS kept, quality_lo AS lo, quality_hi AS hi
    FROM measured
    WHERE list_contains(of_runs, run_id) AND list_contains(of_arms, arm_id) AND scenario = of_scenario AND requests_per_s IS NOT NULL
)
SELECT *, NOT EXISTS (
    SELECT 1 FROM points AS other
    WHERE other.rows_per_s >= points.rows_per_s AND other.kept >= points.kept
      AND (other.rows_per_s > points.rows_per_s OR other.kept > points.kept)) AS on_front
FROM points WHERE kept IS NOT NULL;

-- Default arms by model: median latency of single requests against rows per second in batches. The two lists name the scenarios as
-- {run_id, scenario, precision}. on_front: as above, among the arms of a model.
CREATE OR REPLACE MACRO single_and_batched(of_single, of_batched) AS TABLE
WITH points AS (
    SELECT single.model, single.framework, arm_id, single.p50_ms, batched.requests_per_s AS rows_per_s
    FROM measured AS single JOIN measured AS batched USING (run_id, arm_id)
    WHERE list_contains(of_single, {run_id: run_id, scenario: single.scenario, precision: single.precision})
      AND list_contains(of_batched, {run_id: run_id, scenario: batched.scenario, precision: batched.precision})
      AND single.variant = 'default' AND isfinite(single.p50_ms) AND batched.requests_per_s IS NOT NULL
)
SELECT *, NOT EXISTS (
    SELECT 1 FROM points AS other
    WHERE other.model = points.model AND other.p50_ms <= points.p50_ms AND other.rows_per_s >= points.rows_per_s
      AND (other.p50_ms < points.p50_ms OR other.rows_per_s > points.rows_per_s)) AS on_front
FROM points;

-- Throughput of an arm from run to run, without knobs and arrival rates; *_before: of the run before. change: faster or slower if the 95 %
-- intervals of the two runs do not meet, else NULL.
CREATE OR REPLACE VIEW history AS
WITH chained AS (
    SELECT measured.*, lag(run_id) OVER arm AS run_before, lag(framework_version) OVER arm AS version_before,
           lag(requests_per_s_lo) OVER arm AS lo_before, lag(requests_per_s_hi) OVER arm AS hi_before
    FROM measured
    WHERE served_scenario IS NULL AND requests_per_s IS NOT NULL AND variant NOT LIKE 'knob:%' AND rate_per_s IS NULL
    WINDOW arm AS (PARTITION BY machine_id, model, weights, framework, precision, variant, sessions, threads, scenario
                   ORDER BY measured_at, run_id)
)
SELECT *, CASE WHEN requests_per_s_lo > hi_before THEN 'faster' WHEN requests_per_s_hi < lo_before THEN 'slower' END AS change FROM chained;
