# shellcheck shell=bash
# Part of scripts/bench: `check` beside check_mysql and pt-heartbeat, `status` over many servers of
# which some hang, `setup` beside the bare dump-and-load pipe and the bare CLONE.
#
# Owns: the servers that it starts in scripts/bench's laboratory.

many=50
hanging=5
check_mysql=/usr/lib/nagios/plugins/check_mysql

bench_health() {
    report_machine
    bench_check
    bench_many
}

# ---- check

# All three ask one replica by TCP, as the same account; the source of a pair is asked by none but
# us, and it too.
bench_check() {
    local round side order
    local -A us=()
    [[ -x $check_mysql ]] || die "$check_mysql is missing" "scripts/lab/packages bench"
    command -v pt-heartbeat >/dev/null || die "pt-heartbeat is missing" "scripts/lab/packages bench"
    start_source
    backend_of[replica]=copy
    start_replica replica 2 1
    sql source "CREATE USER watch@'127.0.0.1' IDENTIFIED BY 'bench'; GRANT ALL ON *.* TO watch@'127.0.0.1'"
    sql source "INSERT INTO bench.mark VALUES (9)"
    wait_for_mark replica 9
    install -m 600 /dev/null "$dir/watch.cnf"
    printf '[client]\nuser = watch\npassword = bench\n' >"$dir/watch.cnf"
    {
        printf 'state_dir = "%s/watch"\n' "$dir"
        for side in source replica; do
            printf '[server.%s]\naddress = "127.0.0.1:%d"\ncredentials = "%s/watch.cnf"\n' "$side" "${port[$side]}" "$dir"
        done
    } >"$dir/alone.toml"
    cat "$dir/alone.toml" - >"$dir/pair.toml" <<<$'[pair.lab]\nsource = "source"\nreplicas = ["replica"]'
    "$understudy" -c "$dir/pair.toml" heartbeat source --for 1s >&2
    pt-heartbeat --no-version-check -D bench --create-table --update --run-time 2s -h 127.0.0.1 -P "${port[source]}" -u watch -p bench
    : >"$dir/rounds"
    for ((round = 0; round <= rounds * 3; round++)); do
        case $((round % 4)) in
            0) order="alone mysql pair percona" ;;
            1) order="percona pair mysql alone" ;;
            2) order="mysql alone percona pair" ;;
            3) order="pair percona alone mysql" ;;
        esac
        for side in $order; do us[$side]=$(time_check "$side"); done
        ((round > 0)) || continue
        printf '%d %d %d %d\n' "${us[alone]}" "${us[pair]}" "${us[mysql]}" "${us[percona]}" >>"$dir/rounds"
        printf '{"bench":"check","flavour":"%s","round":%d,"alone_us":%d,"pair_us":%d,"check_mysql_us":%d,"pt_heartbeat_us":%d,"loadavg":"%s"}\n' \
            "$flavour" "$round" "${us[alone]}" "${us[pair]}" "${us[mysql]}" "${us[percona]}" "$(load_average)" >>"$output"
    done
    printf '\n%s, %d rounds\n\n| one replica, by TCP | median ms | p10 | p90 |\n|---|---|---|---|\n' "$flavour" $((rounds * 3))
    row "\`check\`, the replica alone" ms 1
    row "\`check\`, beside its source" ms 2
    row "check_mysql" ms 3
    row "pt-heartbeat --check" ms 4
    printf '\n| ratio | of medians | median of rounds | p10 | p90 | goal |\n|---|---|---|---|---|---|\n'
    ratio_row "check / check_mysql" 1 3 1.2
    ratio_row "check with its source / check_mysql" 2 3 1.2
    ratio_row "check / pt-heartbeat" 1 4 0.2
    /usr/bin/time -f '%M' -o "$dir/memory" "$understudy" -c "$dir/pair.toml" check replica >/dev/null || true
    awk '{ printf "\npeak memory of `check`: %.1f MB (goal 20 %s)\n", $1 / 1024, $1 <= 20 * 1024 ? "met" : "MISSED" }' "$dir/memory"
}

time_check() {
    local began ended
    began=${EPOCHREALTIME/./}
    case $1 in
        alone) "$understudy" -c "$dir/alone.toml" check replica >"$dir/said" ;;
        pair) "$understudy" -c "$dir/pair.toml" check replica >"$dir/said" ;;
        mysql) "$check_mysql" -H 127.0.0.1 -P "${port[replica]}" -u watch -p bench -S >"$dir/said" ;;
        percona) pt-heartbeat --no-version-check -D bench --check --master-server-id 1 -h 127.0.0.1 -P "${port[replica]}" -u watch -p bench >"$dir/said" ;;
    esac || die "$1 failed" "$(<"$dir/said")"
    ended=${EPOCHREALTIME/./}
    printf '%d\n' $((ended - began))
}

# ---- many

# Small servers that replicate from nobody: what is measured is the asking.
bench_many() {
    local number limit_s=2
    local -a started=()
    for ((number = 1; number <= many; number++)); do
        start_small "small$number" $((100 + number)) &
        started+=($!)
        # A few at a time.
        ((number % 5)) || { wait "${started[@]}"; started=(); }
    done
    for ((number = 1; number <= many; number++)); do
        pid[small$number]=$(<"$dir/small$number.pid")
        printf '[server.small%d]\nsocket = "%s/small%d.sock"\ncredentials = "%s/credentials.cnf"\n' "$number" "$dir" "$number" "$dir"
    done >"$dir/many.servers"
    { printf 'state_dir = "%s/many"\n' "$dir"; cat "$dir/many.servers"; } >"$dir/many.toml"
    printf '\n| `status` of %d servers | median ms | p10 | p90 | goal |\n|---|---|---|---|---|\n' "$many"
    time_many "all answer" 2000
    for ((number = 1; number <= hanging; number++)); do kill -STOP "${pid[small$number]}"; done
    time_many "$hanging of them hang, the limit is $limit_s s" $(((limit_s + 2) * 1000))
    for ((number = 1; number <= hanging; number++)); do kill -CONT "${pid[small$number]}"; done
}

start_small() {
    local name=$1
    mkdir -p "$dir/$name-data"
    cp -a "$lab/mariadb/template/." "$dir/$name-data/"
    chown -R root: "$dir/$name-data"
    setsid "$lab/mariadb/bin/mariadbd" --no-defaults --user=root --datadir="$dir/$name-data" --socket="$dir/$name.sock" \
        --skip-networking --server-id="$2" --pid-file="$dir/$name.pid" --innodb-buffer-pool-size=8M \
        --innodb-log-file-size=4M --performance-schema=OFF --max-connections=10 >"$dir/$name.log" 2>&1 &
    for _ in $(seq 300); do
        ! sql "$name" "DO 1" 2>/dev/null || return 0
        sleep 0.2
    done
    die "$name did not start" "See $dir/$name.log."
}

time_many() {
    local round began ended
    : >"$dir/rounds"
    for ((round = 0; round < 10; round++)); do
        began=${EPOCHREALTIME/./}
        "$understudy" -c "$dir/many.toml" status --timeout "${limit_s}s" >"$dir/said"
        ended=${EPOCHREALTIME/./}
        printf '%d\n' $((ended - began)) >>"$dir/rounds"
        printf '{"bench":"status","servers":%d,"variant":"%s","us":%d}\n' "$many" "$1" $((ended - began)) >>"$output"
    done
    awk '{ print $1 / 1000 }' "$dir/rounds" | percentiles |
        awk -v word="$1" -v goal="$2" '{ printf "| %s | %.0f | %.0f | %.0f | %d %s |\n", word, $2, $1, $3, goal, $3 <= goal ? "met" : "MISSED" }'
}

# ---- setup

# The data of `source` into an empty server: by us, and by what anybody would type. Each round has a
# fresh server for each side; both sides read the same source.
bench_setup() {
    start_source
    fill source "$data_mb"
    report_machine
    measure_provision dump "dump piped into client"
    if [[ $flavour == mysql ]]; then
        sql source "INSTALL PLUGIN clone SONAME 'mysql_clone.so';
            CREATE USER donor@'127.0.0.1' IDENTIFIED BY 'bench'; GRANT BACKUP_ADMIN ON *.* TO donor@'127.0.0.1'"
        supervisor=supervise
        measure_provision clone "CLONE INSTANCE, to the first answer after it"
    fi
}

measure_provision() {
    local way=$1 round side
    local -A us=()
    : >"$dir/rounds"
    for ((round = 0; round <= (rounds < 5 ? rounds : 5); round++)); do
        if ((round % 2)); then
            for side in ours bare; do us[$side]=$("${side}_load" "$way"); done
        else
            for side in bare ours; do us[$side]=$("${side}_load" "$way"); done
        fi
        ((round > 0)) || continue
        printf '%d %d\n' "${us[bare]}" "${us[ours]}" >>"$dir/rounds"
        printf '{"bench":"setup","provision":"%s","flavour":"%s","mb":%d,"ours_us":%d,"bare_us":%d,"loadavg":"%s"}\n' \
            "$way" "$flavour" "$data_mb" "${us[ours]}" "${us[bare]}" "$(load_average)" >>"$output"
    done
    printf '\n%s, %d MB, %d rounds\n\n| provisioning by %s | median s | p10 | p90 |\n|---|---|---|---|\n' "$flavour" "$data_mb" "$(wc -l <"$dir/rounds")" "$way"
    row_s "setup, its provision step" 2
    row_s "$2" 1
    awk '{ print $1 / $2 }' "$dir/rounds" | percentiles |
        awk '{ printf "\nthroughput, ours / bare: %.3f (%.3f to %.3f), goal 0.95 %s\n", $2, $1, $3, ($2 >= 0.95) ? "met" : "MISSED" }'
}

row_s() {
    awk -v c="$2" '{ print $c / 1e6 }' "$dir/rounds" | percentiles |
        awk -v word="$1" '{ printf "| %s | %.2f | %.2f | %.2f |\n", word, $2, $1, $3 }'
}

# Begins a fresh server `target`.
fresh_target() {
    unset "data[target]"
    start_server target 9
}

drop_target() {
    kill "${pid[target]}" && wait "${pid[target]}" || true
    unset "pid[target]"
    rm -rf "${data[target]}"
    # What it left to be written isn't the next side's.
    sync -f "$dir"
}

bare_load() {
    local began ended
    fresh_target
    [[ $1 != clone ]] || sql target "INSTALL PLUGIN clone SONAME 'mysql_clone.so'; SET GLOBAL clone_valid_donor_list = '127.0.0.1:${port[source]}'"
    began=${EPOCHREALTIME/./}
    "bare_$1"
    ended=${EPOCHREALTIME/./}
    drop_target >&2
    printf '%d\n' $((ended - began))
}

bare_dump() {
    local dump=mariadb-dump
    local -a more=(--gtid --master-data=1)
    [[ $flavour == mariadb ]] || { dump=$lab/mysql-9.7/bin/mysqldump; more=(--set-gtid-purged=OFF --source-data=2); }
    # shellcheck disable=SC2046 # the words of client_argv are meant to be split
    { printf 'SET sql_log_bin = 0;\n'; "$dump" --no-defaults -uroot --socket="$dir/source.sock" --single-transaction --quick "${more[@]}" --routines --events --databases bench; } |
        $(client_argv target) --max-allowed-packet=1G >/dev/null
}

bare_clone() {
    sql target "CLONE INSTANCE FROM donor@'127.0.0.1':${port[source]} IDENTIFIED BY 'bench'" >&2
    for _ in $(seq 3000); do
        [[ $(sql target "SELECT COUNT(*) FROM bench.data_1" 2>/dev/null) != $((data_mb * 2)) ]] || return 0
        sleep 0.02
    done
    { tail -n 15 "$dir/target.log" >&2; die "the cloned server did not come back" "See its log above."; }
}

ours_load() {
    local answer
    fresh_target
    rm -rf "$dir/setup-state"
    sql source "DROP USER IF EXISTS understudy@localhost; CREATE USER understudy@localhost IDENTIFIED BY 'bench'; GRANT ALL ON *.* TO understudy@localhost WITH GRANT OPTION"
    sql target "SET sql_log_bin = 0; CREATE USER understudy@localhost IDENTIFIED BY 'bench'; GRANT ALL ON *.* TO understudy@localhost WITH GRANT OPTION"
    install -m 600 /dev/null "$dir/setup.cnf"
    printf '[client]\nuser = understudy\npassword = bench\n' >"$dir/setup.cnf"
    {
        printf 'state_dir = "%s/setup-state"\n' "$dir"
        printf '[server.%s]\naddress = "127.0.0.1:%d"\ncredentials = "%s/setup.cnf"\n' source "${port[source]}" "$dir" target "${port[target]}" "$dir"
        printf '[pair.lab]\nsource = "source"\nreplicas = ["target"]\n'
    } >"$dir/setup.toml"
    # Started in this subshell, the target is known to no other: it goes before anything is said.
    answer=$("$understudy" -c "$dir/setup.toml" --yes --output json setup lab --provision "$1") || { drop_target >&2; die "setup failed" "$answer"; }
    drop_target >&2
    printf '%d000\n' "$(grep -B 3 '"name": "provision"' <<<"$answer" | json_value ms)"
}
