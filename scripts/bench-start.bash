# shellcheck shell=bash
# shellcheck disable=SC2016 # backquotes are Markdown
# Part of scripts/bench: how long it takes until a command has started, beside a bare program and another
# client; and a whole night by `run` beside the same by hand.
#
# Owns: what it makes in scripts/bench's laboratory.

start_goal_ms=20
night_goal=1.1

# ---- start

# What is started: the name of a side, and its command line.
declare -A starts=()
sides_of_start=(true client version check list history recover)

bench_start() {
    local round side began
    local -A us=()
    add_volume replica btrfs "$data_mb"
    start_source
    start_replica replica 2 "$data_mb"
    # Something to list, and a night to tell of.
    "$understudy" --quiet run replica >/dev/null
    starts=(
        [true]="/bin/true"
        [client]="$(command -v mysql || command -v mariadb) --version"
        [version]="$understudy --version"
        [check]="$understudy config check"
        [list]="$understudy snapshot list"
        [history]="$understudy history"
        [recover]="$understudy recover"
    )
    : >"$dir/rounds"
    # Round 0 fills caches and counts for nothing. Each round begins with another side.
    for ((round = 0; round <= rounds; round++)); do
        for side in $(in_turn "$round" "${sides_of_start[@]}"); do
            began=${EPOCHREALTIME/./}
            # shellcheck disable=SC2086 # a command line's words
            ${starts[$side]} >/dev/null || die "it fails" "${starts[$side]}"
            us[$side]=$((${EPOCHREALTIME/./} - began))
        done
        ((round > 0)) || continue
        for side in "${sides_of_start[@]}"; do printf '%d ' "${us[$side]}"; done >>"$dir/rounds"
        printf '\n' >>"$dir/rounds"
        for side in "${sides_of_start[@]}"; do
            printf '{"bench":"start","side":"%s","round":%d,"us":%d,"loadavg":"%s"}\n' \
                "$side" "$round" "${us[$side]}" "$(load_average)"
        done >>"$output"
    done
    report_start
}

# in_turn NUMBER WORD…: the words, beginning with another each time.
in_turn() {
    local from=$(($1 % ($# - 1)))
    shift
    printf '%s\n' "${@:from+1}" "${@:1:from}"
}

report_start() {
    local column=0 side goal
    report_machine
    printf '%s, %d rounds\n\n| from start to end | median ms | p10 | p90 | goal |\n|---|---|---|---|---|\n' "$flavour" "$rounds"
    for side in "${sides_of_start[@]}"; do
        column=$((column + 1))
        goal=$start_goal_ms
        case $side in true | client) goal= ;; esac
        awk -v c="$column" '{ print $c / 1000 }' "$dir/rounds" | percentiles |
            awk -v word="${starts[$side]/#$understudy/understudy}" -v goal="$goal" \
                '{ printf "| `%s` | %.2f | %.2f | %.2f | %s |\n", word, $2, $1, $3,
                   goal == "" ? "" : "< " goal ($2 < goal ? " met" : " MISSED") }'
    done
    printf '\n'
}

# ---- run

bench_run() {
    local round side
    local -A us=()
    add_volume replica btrfs "$data_mb"
    start_source
    start_replica replica 2 "$data_mb"
    # As long as nothing is kept for a rule, both prune as much in each round.
    sed -i 's/^\[server\.replica\.snapshot\]$/&\nkeep = { last = 2 }/' "$dir/understudy.toml"
    grep -q 'last = 2' "$dir/understudy.toml" || die "no rule could be set" "look for [server.replica.snapshot] in scripts/bench-lab.bash"
    : >"$dir/rounds"
    for ((round = -1; round <= rounds; round++)); do
        for side in $(in_turn $((round + 1)) run hand); do
            us[$side]=$("night_by_$side")
            settle_volume replica >&2
            sleep 0.3
        done
        ((round > 0)) || continue
        printf '%d %d\n' "${us[run]}" "${us[hand]}" >>"$dir/rounds"
        printf '{"bench":"run","backend":"btrfs","flavour":"%s","round":%d,"run_us":%d,"hand_us":%d,"loadavg":"%s"}\n' \
            "$flavour" "$round" "${us[run]}" "${us[hand]}" "$(load_average)" >>"$output"
    done
    report_machine
    printf 'btrfs, %s, idle, %d MB of data, %d rounds\n\n| a night | median ms | p10 | p90 |\n|---|---|---|---|\n' "$flavour" "$data_mb" "$rounds"
    row '`run`' ms 1
    row '`create`, `verify`, `prune`' ms 2
    printf '\n| ratio | of medians | median of rounds | p10 | p90 | goal |\n|---|---|---|---|---|---|\n'
    ratio_row '`run` / by hand' 1 2 "$night_goal"
    printf '\n'
}

night_by_run() {
    local began=${EPOCHREALTIME/./}
    "$understudy" --quiet run replica >/dev/null
    printf '%d\n' $((${EPOCHREALTIME/./} - began))
}

night_by_hand() {
    local began=${EPOCHREALTIME/./}
    "$understudy" --quiet snapshot create replica >/dev/null
    "$understudy" --quiet snapshot verify latest:replica >/dev/null
    "$understudy" --quiet --yes snapshot prune replica >/dev/null
    printf '%d\n' $((${EPOCHREALTIME/./} - began))
}
