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
    load_pss_bytes BIGINT, rss_bytes BIGINT, peak_rss_bytes BIGINT, -- when the worker reports that it is ready, after two calls on one short row
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
    token_share DOUBLE,                    -- share of useful tokens among computed ones; the rest is padding within batches (tokens_per_s counts useful ones)
    -- open loop: rho is the offered load (rate × service time per request; above 1 the backlog grows), late_p99_ms how late a free session
    -- takes a due request, little_error |L − λW| / L of Little's law (from 500 requests on)
    rho DOUBLE, late_p99_ms DOUBLE, little_error DOUBLE,
    -- SLO search: the latency limit; rate_per_s is the largest rate that keeps it, slo_fails_per_s the smallest tried rate that does not
    slo_ms DOUBLE, slo_fails_per_s DOUBLE,
    -- starts: medians. cold_*: starts with an empty page cache (cold_note: why there is none). start_to_first_ms: process start to first vector
    load_ms DOUBLE, first_ms DOUBLE, second_ms DOUBLE, start_to_first_ms DOUBLE, cold_load_ms DOUBLE, cold_start_to_first_ms DOUBLE,
    cold_note VARCHAR,
    -- memory: peak_rss is the highest VmHWM of a block (reset at its start), load_peak_rss the peak while loading; the rest are medians over
    -- the ends of blocks
    peak_rss_bytes BIGINT, load_peak_rss_bytes BIGINT, rss_bytes BIGINT, rss_anon_bytes BIGINT, rss_file_bytes BIGINT, rss_shmem_bytes BIGINT,
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
-- time = base + per_token·L + per_token2·L²), and new_shape_ratio, the time of a length that is new to the process over that of a known one.
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

-- Swapping arms without re-indexing: an index of the run's probe set built by `built_arm` and queried by `asked_arm`; the arm `reference` is
-- the fp32 Embedder. verdict: yes (the same documents come back), nearly (other documents of equal nDCG do), re-index.
CREATE TABLE IF NOT EXISTS swaps (
    run_id VARCHAR NOT NULL, built_arm VARCHAR NOT NULL, asked_arm VARCHAR NOT NULL, queries BIGINT NOT NULL,
    overlap DOUBLE NOT NULL, overlap_lo DOUBLE, ndcg DOUBLE, ndcg_kept DOUBLE, ndcg_kept_lo DOUBLE, verdict VARCHAR NOT NULL,
    PRIMARY KEY (run_id, built_arm, asked_arm)
);

CREATE OR REPLACE VIEW leaderboard AS SELECT * FROM results;

-- The current rows: per machine × model × weights × precision × scenario those of the newest complete run in which some arm was tried. A run
-- whose arms were all SKIPPED or NOT_APPLICABLE hides no older one.
CREATE OR REPLACE VIEW current_leaderboard AS
WITH known AS (
    SELECT results.*, bool_or(role = 'measured' AND status NOT IN ('SKIPPED', 'NOT_APPLICABLE'))
        OVER (PARTITION BY run_id, precision, scenario) AS tried
    FROM results JOIN runs USING (run_id) WHERE runs.complete
)
SELECT * EXCLUDE (tried) FROM known
QUALIFY run_id = first_value(run_id) OVER (
    PARTITION BY machine_id, model, weights, precision, scenario ORDER BY tried DESC, measured_at DESC, run_id DESC);
