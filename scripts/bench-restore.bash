# shellcheck shell=bash
# Part of scripts/bench: how long getting the data back takes, beside the bare server's own start, a
# load of a dump, and the programs that copy files.
#
# Owns: clones of the bench's own snapshots, all below its temporary directory or on its volumes.

sizes=100,1024

bench_restore() {
    local size
    case $backend in btrfs | zfs | copy | reflink) ;; *) die "not for $backend" "btrfs, zfs, copy or reflink" ;; esac
    start_source
    : >"$dir/boots"
    for size in ${sizes//,/ }; do measure_size "$size"; done
    report_machine
    printf '%s, %s, idle, %d rounds\n' "$backend" "$flavour" "$rounds"
    report_boots
    report_copies
}

# One server at a time, so that the disk holds the largest beside its copies.
measure_size() {
    local size=$1 name=r$1 id round
    add_volume "$name" "$backend" "$size"
    start_replica "$name" 2 "$size"
    sql source "DELETE FROM bench.mark"
    id=$("$understudy" --output json snapshot create "$name" | json_value id)
    dump_of "$name" "$size"
    for ((round = 0; round <= rounds; round++)); do
        measure_boots "$name" "$id" "$size" "$round"
    done
    load_dump "$size"
    for ((round = 0; round <= (rounds < 5 ? rounds : 5); round++)); do
        measure_copies "$name" "$id" "$size" "$round"
    done
    "$understudy" --yes snapshot delete "$id" >/dev/null
    kill "${pid[$name]}" && wait "${pid[$name]}" || true
    unset "pid[$name]"
}

# ---- up to the first answer

measure_boots() {
    local name=$1 id=$2 size=$3 round=$4 ours bare
    if ((round % 2)); then
        ours=$(boot_ours "$id")
        bare=$(boot_bare "$name" "$id")
    else
        bare=$(boot_bare "$name" "$id")
        ours=$(boot_ours "$id")
    fi
    ((round > 0)) || return 0
    printf '%d %d %d\n' "$size" "$ours" "$bare" >>"$dir/boots"
    printf '{"bench":"restore-boot","backend":"%s","flavour":"%s","mb":%d,"ours_us":%d,"bare_us":%d,"loadavg":"%s"}\n' \
        "$backend" "$flavour" "$size" "$ours" "$bare" "$(load_average)" >>"$output"
}

# The clone and the boot to the first answered query, by its own clock.
boot_ours() {
    local answer
    answer=$("$understudy" --output json snapshot verify "$1") || die "verify failed" "$answer"
    printf '%d000\n' $(($(json_value clone_ms <<<"$answer") + $(json_value boot_ms <<<"$answer")))
}

# The server alone, on a clone that is there already.
boot_bare() {
    local name=$1 id=$2 began ended server
    make_bare_clone "$name" "$id"
    local -a flags=(--no-defaults --user=root --datadir="$bare_data" --socket="$dir/bare.sock" --pid-file="$dir/bare.pid"
        --skip-networking --server-id=99 --log-bin=binlog --innodb-buffer-pool-size=128M)
    ! in_guest || flags+=(--innodb-use-native-aio=0)
    local -a program=("$lab/mariadb/bin/mariadbd" --skip-slave-start)
    [[ $flavour == mariadb ]] || program=("$lab/mysql-9.7/bin/mysqld" --skip-replica-start --secure-file-priv= --mysqlx=0 --gtid-mode=ON --enforce-gtid-consistency=ON)
    began=${EPOCHREALTIME/./}
    "${program[0]}" "${flags[@]}" "${program[@]:1}" >"$dir/bare.log" 2>&1 &
    server=$!
    until sql bare "DO 1" 2>/dev/null; do
        kill -0 "$server" 2>/dev/null || die "the bare server ended" "$(tail -n 3 "$dir/bare.log")"
    done
    ended=${EPOCHREALTIME/./}
    kill "$server"
    wait "$server" || true
    remove_bare_clone "$name"
    printf '%d\n' $((ended - began))
}

# Sets `bare_data`.
make_bare_clone() {
    local name=$1 id=$2 kept
    case $backend in
        btrfs)
            btrfs -q subvolume snapshot "${volume[$name]}/.understudy-snapshots/$id/data" "${volume[$name]}/bare/clone"
            bare_data=${volume[$name]}/bare/clone/data
            ;;
        zfs)
            zfs clone -o mountpoint="$dir/bare-clone" "bench$name/server@understudy-$id" "bench$name/clone"
            bare_data=$dir/bare-clone/data
            ;;
        copy | reflink)
            kept=$dir/copies
            [[ $backend == copy ]] || kept=${volume[$name]}/copies
            cp -a --reflink=auto "$kept/$id/data" "$kept/bare-clone"
            bare_data=$kept/bare-clone
            ;;
    esac
    rm -f "$bare_data/auto.cnf"
}

remove_bare_clone() {
    case $backend in
        btrfs) btrfs -q subvolume delete "${volume[$1]}/bare/clone" ;;
        zfs) zfs destroy "bench$1/clone" ;;
        copy | reflink) rm -rf "$bare_data" ;;
    esac
    settle_volume "$1"
}

report_boots() {
    local size
    printf '\n| data | ours: clone and boot, ms | bare: boot alone, ms | ratio | p10 | p90 | goal |\n|---|---|---|---|---|---|---|\n'
    for size in ${sizes//,/ }; do
        awk -v s="$size" '$1 == s { print $2, $3 }' "$dir/boots" >"$dir/rounds"
        paste <(awk '{ print $1 }' "$dir/rounds" | percentiles) <(awk '{ print $2 }' "$dir/rounds" | percentiles) \
            <(awk '{ print $1 / $2 }' "$dir/rounds" | percentiles) |
            awk -v s="$size" '{ printf "| %d MB | %.0f | %.0f | %.3f | %.3f | %.3f | 1.2 %s |\n", s, $2 / 1000, $5 / 1000, $8, $7, $9, $8 <= 1.2 ? "met" : "MISSED" }'
    done
    printf '\n| data | load of a dump, s | load / ours |\n|---|---|---|\n'
    for size in ${sizes//,/ }; do
        awk -v s="$size" -v load="$(<"$dir/loaded-$size")" '$1 == s { print $2 }' "$dir/boots" | percentiles |
            awk -v s="$size" -v load="$(<"$dir/loaded-$size")" '{ printf "| %d MB | %.1f | %.0f |\n", s, load / 1e6, load / $2 }'
    done
    local first=${sizes%%,*} last=${sizes##*,}
    [[ $first == "$last" ]] || paste <(awk -v s="$last" '$1 == s { print $2 }' "$dir/boots" | percentiles) \
        <(awk -v s="$first" '$1 == s { print $2 }' "$dir/boots" | percentiles) |
        awk -v a="$last" -v b="$first" '{ r = $2 / $5; printf "\nours at %d MB / ours at %d MB: %.3f (goal 1.3 %s)\n", a, b, r, r <= 1.3 ? "met" : "MISSED" }'
}

# ---- the way without snapshots

dump_of() {
    local dump=mariadb-dump
    [[ $flavour == mariadb ]] || dump=$lab/mysql-9.7/bin/mysqldump
    "$dump" --no-defaults -uroot --socket="$dir/$1.sock" --single-transaction --quick bench >"$dir/dump-$2.sql"
}

load_dump() {
    local size=$1 name=load$1 began ended
    data[$name]=
    unset "data[$name]"
    start_server "$name" 9
    began=${EPOCHREALTIME/./}
    # shellcheck disable=SC2046 # the words of client_argv are meant to be split
    { printf 'SET sql_log_bin = 0; CREATE DATABASE back; USE back;\n'; cat "$dir/dump-$size.sql"; } |
        $(client_argv "$name") --max-allowed-packet=1G >/dev/null
    ended=${EPOCHREALTIME/./}
    printf '%d\n' $((ended - began)) >"$dir/loaded-$size"
    kill "${pid[$name]}" && wait "${pid[$name]}" || true
    unset "pid[$name]"
    rm -rf "$dir/dump-$size.sql" "${data[$name]}"
}

# ---- copies

measure_copies() {
    local name=$1 id=$2 size=$3 round=$4 side
    local -A us=()
    make_readable "$name" "$id"
    for side in ${COPY_ORDERS[round % ${#COPY_ORDERS[@]}]}; do
        rm -rf "$dir/copied"
        mkdir -m 700 "$dir/copied"
        sync
        echo 3 >/proc/sys/vm/drop_caches
        us[$side]=$("copy_$side" "$id")
    done
    rm -rf "$dir/copied"
    drop_readable "$name"
    ((round > 0)) || return 0
    printf '%d %d %d %d\n' "$size" "${us[ours]}" "${us[cp]}" "${us[rsync]}" >>"$dir/copies-$size"
    printf '{"bench":"restore-copy","backend":"%s","flavour":"%s","mb":%d,"ours_us":%d,"cp_us":%d,"rsync_us":%d,"loadavg":"%s"}\n' \
        "$backend" "$flavour" "$size" "${us[ours]}" "${us[cp]}" "${us[rsync]}" "$(load_average)" >>"$output"
}

COPY_ORDERS=("ours cp rsync" "rsync ours cp" "cp rsync ours")

# Sets `readable`: the snapshot's data directory for the others to copy.
make_readable() {
    case $backend in
        btrfs) readable=${volume[$1]}/.understudy-snapshots/$2/data/data ;;
        zfs)
            mkdir -p "$dir/readable"
            mount -t zfs "bench$1/server@understudy-$2" "$dir/readable"
            readable=$dir/readable/data
            ;;
        copy) readable=$dir/copies/$2/data ;;
        reflink) readable=${volume[$1]}/copies/$2/data ;;
    esac
}

drop_readable() { [[ $backend != zfs ]] || umount "$dir/readable"; }

copy_ours() {
    local answer
    answer=$("$understudy" --output json snapshot restore "$1" --to "$dir/copied") || die "restore failed" "$answer"
    printf '%d000\n' "$(json_value copy_ms <<<"$answer")"
}

# As lasting as ours: synced.
copy_cp() { timed_copy cp -a --sparse=always "$readable/." "$dir/copied/"; }
copy_rsync() { timed_copy rsync -aS "$readable/" "$dir/copied/"; }

timed_copy() {
    local began ended
    began=${EPOCHREALTIME/./}
    "$@"
    sync -f "$dir/copied"
    ended=${EPOCHREALTIME/./}
    printf '%d\n' $((ended - began))
}

report_copies() {
    local size
    printf '\n| data | `restore --to`, MB/s | cp | rsync | throughput, ours / the best of both | p10 | p90 | goal |\n|---|---|---|---|---|---|---|---|\n'
    for size in ${sizes//,/ }; do
        paste <(awk '{ print $2 }' "$dir/copies-$size" | percentiles) <(awk '{ print $3 }' "$dir/copies-$size" | percentiles) \
            <(awk '{ print $4 }' "$dir/copies-$size" | percentiles) \
            <(awk '{ print ($3 < $4 ? $3 : $4) / $2 }' "$dir/copies-$size" | percentiles) |
            awk -v s="$size" '{ printf "| %d MB | %.0f | %.0f | %.0f | %.3f | %.3f | %.3f | 0.9 %s |\n", s, s * 1e6 / $2, s * 1e6 / $5, s * 1e6 / $8, $11, $10, $12, ($11 >= 0.9) ? "met" : "MISSED" }'
    done
}

# ---- checking tables

# What `tables` takes beyond `boot`, on the clock and on the processors.
measure_check() {
    local level wall cpu began
    for level in boot tables; do
        began=$(busy_ticks)
        /usr/bin/time -f '%e %U %S' -o "$dir/time-$level" "$understudy" --output json snapshot verify "$1" --level "$level" >/dev/null
        printf '%d %d\n' "$began" "$(busy_ticks)" >>"$dir/time-$level"
    done
    # The kernel reads and verifies in threads of its own: the whole machine's time is counted.
    paste -s -d ' ' "$dir/time-boot" "$dir/time-tables" | tr '\t\n' '  ' |
        awk -v s="$2" -v hz="$(getconf CLK_TCK)" '{ printf "%d %.2f %.2f\n", s, $6 - $1, ($10 - $9 - $5 + $4) / hz }' >>"$dir/checks"
    read -r _ wall cpu < <(tail -n 1 "$dir/checks")
    printf '{"bench":"restore-check","backend":"%s","flavour":"%s","mb":%d,"wall_s":%s,"cpu_s":%s}\n' "$backend" "$flavour" "$2" "$wall" "$cpu" >>"$output"
}

# What all processors have worked since the machine's start.
busy_ticks() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 }' /proc/stat; }

# Rows are what CHECK TABLE works on, not bytes: eight tables of short rows with an index.
bench_tables() {
    local id round
    add_volume replica "$backend" $((rows / 2500 + 100))
    start_source
    start_replica replica 2 1
    fill_rows
    id=$("$understudy" --output json snapshot create replica | json_value id)
    : >"$dir/checks"
    for ((round = 0; round < (rounds < 5 ? rounds : 5); round++)); do measure_check "$id" "$rows"; done
    report_machine
    printf '%s, %s, idle, %d rounds\n\n| rows in 8 tables | CHECK TABLE of all, s | on the processors, s | cores used | goal |\n|---|---|---|---|---|\n' \
        "$backend" "$flavour" "$(wc -l <"$dir/checks")"
    paste <(awk '{ print $2 }' "$dir/checks" | percentiles) <(awk '{ print $3 }' "$dir/checks" | percentiles) \
        <(awk '{ print $3 / $2 }' "$dir/checks" | percentiles) |
        awk -v n="$rows" '{ printf "| %d | %.2f | %.2f | %.2f (%.2f to %.2f) | both: 1.5 %s |\n", n, $2, $5, $8, $7, $9, ($8 >= 1.5) ? "met" : "MISSED" }'
    printf '\n'
}

fill_rows() {
    local table
    for table in 1 2 3 4 5 6 7 8; do
        printf 'USE bench; SET sql_log_bin = 0; CREATE TABLE bench.rows_%d (id INT AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, note CHAR(60) NOT NULL, KEY (k), KEY (note));\n' "$table"
        printf 'SET SESSION %s = 100000000; INSERT INTO bench.rows_%d (k, note) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT FLOOR(RAND() * 1000000), HEX(RANDOM_BYTES(16)) FROM n;\n' \
            "$([[ $flavour == mysql ]] && echo cte_max_recursion_depth || echo max_recursive_iterations)" "$table" $((rows / 8))
    done >"$dir/rows.sql"
    # shellcheck disable=SC2046 # the words of client_argv are meant to be split
    $(client_argv replica) <"$dir/rows.sql"
}
