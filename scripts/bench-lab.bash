# shellcheck shell=bash
# Part of scripts/bench: private servers and volumes to measure on, and the write load.
#
# Owns: one temporary directory, the servers, loop devices, mounts, volume groups and pools made
# for it; `end_lab` ends all of them, by process id and by name. Must not touch anything else.
# LVM and ZFS only on the emulated machine's own disks (UNDERSTUDY_LAB_DISKS).

lab=${UNDERSTUDY_LAB:-/var/cache/understudy-lab}
dir=
flavour=mariadb
load_limit_s=1800
declare -A port=() pid=() data=() volume=() backend_of=()
declare -a loop_devices=() mounts=() groups=() pools=() load_pids=()
read -r -a free_disks <<<"${UNDERSTUDY_LAB_DISKS:-}"

say() { printf 'bench: %s\n' "$*" >&2; }
die() { printf 'bench: error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }
in_guest() { [[ -n ${UNDERSTUDY_LAB_DISKS:-} ]]; }

begin_lab() {
    [[ $EUID == 0 ]] || die "this needs root (volumes, mounts)" "sudo scripts/bench"
    trap end_lab EXIT
    trap 'exit 130' INT TERM HUP
    dir=$(mktemp -d "${TMPDIR:-/tmp}/understudy-bench.XXXXXX")
    chmod 755 "$dir"
    install -m 600 /dev/null "$dir/credentials.cnf"
    printf '[client]\nuser = root\n' >"$dir/credentials.cnf"
    printf 'state_dir = "%s/state"\n' "$dir" >"$dir/understudy.toml"
    export UNDERSTUDY_CONFIG=$dir/understudy.toml
}

end_lab() {
    local status=$? name item
    trap - EXIT
    trap '' INT TERM HUP
    set +e
    if [[ -n $dir ]]; then
        touch "$dir/load-ends"
        # An interrupted understudy puts things back first: it holds its lock until that is done.
        for name in "${!pid[@]}"; do
            [[ ! -e $dir/state/locks/$name.lock ]] || flock -w 60 "$dir/state/locks/$name.lock" true
        done
        for name in "${!pid[@]}"; do kill "${pid[$name]}" 2>/dev/null; done
        for name in "${!pid[@]}"; do wait "${pid[$name]}" 2>/dev/null; done
        for item in "${load_pids[@]}"; do wait "$item" 2>/dev/null; done
        for item in "${mounts[@]}"; do mountpoint -q "$item" && umount "$item"; done
        for item in "${loop_devices[@]}"; do losetup -d "$item"; done
        for item in "${groups[@]}"; do vgremove -q -q -f "$item" >/dev/null; done
        for item in "${pools[@]}"; do zpool destroy -f "$item"; done
        rm -rf "$dir"
    fi
    exit "$status"
}

# ---- volumes

# add_volume NAME BACKEND DATA_MB: where the server NAME will have its data.
add_volume() {
    local name=$1 kind=$2 size_mb=$(($3 * 3 + 4096)) disk
    backend_of[$name]=$kind
    volume[$name]=$dir/$name
    mkdir -p "$dir/$name" "$dir/bare"
    case $kind in
        copy) ;;
        btrfs | reflink)
            truncate -s "${size_mb}M" "$dir/$name.img"
            mkfs.btrfs -q "$dir/$name.img" >/dev/null
            disk=$(losetup --find --show "$dir/$name.img")
            loop_devices+=("$disk")
            mount_at "$disk" "$dir/$name"
            btrfs -q subvolume create "$dir/$name/server"
            mkdir "$dir/$name/bare"
            ;;
        lvm-thick | lvm-thin) add_logical_volume "$name" "$kind" ;;
        zfs)
            take_disk
            zpool create -f -m none "bench$name" "$disk"
            pools+=("bench$name")
            zfs create -o mountpoint="$dir/$name" -o compression=off -o recordsize=16k "bench$name/server"
            ;;
        *) die "unknown back-end '$kind'" "btrfs, copy, reflink, lvm-thick, lvm-thin or zfs" ;;
    esac
    data[$name]=${volume[$name]}/data
    case $kind in btrfs | reflink) data[$name]=$dir/$name/server/data ;; esac
    mkdir -p "${data[$name]}"
}

mount_at() {
    mount "$1" "$2"
    mounts+=("$2")
}

# Sets `disk` of the caller.
take_disk() {
    ((${#free_disks[@]})) || die "no disk of an emulated machine is left for LVM or ZFS" \
        "scripts/lab/guest run -- scripts/bench …"
    disk=${free_disks[0]}
    free_disks=("${free_disks[@]:1}")
}

add_logical_volume() {
    local name=$1 kind=$2 disk
    take_disk
    wipefs -q -a "$disk"
    vgcreate -q "bench$name" "$disk" >/dev/null
    groups+=("bench$name")
    case $kind in
        lvm-thick) lvcreate -q -L 3G -n server "bench$name" >/dev/null ;;
        lvm-thin)
            lvcreate -q -L 5G --thinpool pool "bench$name" >/dev/null
            lvcreate -q -V 3G --thin -n server "bench$name/pool" >/dev/null
            ;;
    esac
    mkfs.ext4 -q "/dev/bench$name/server"
    mount_at "/dev/bench$name/server" "$dir/$name"
}

# The storage command that whoever has no understudy would write, as one line for a shell.
snapshot_command() {
    local name=$1
    case ${backend_of[$name]} in
        btrfs) printf 'btrfs -q subvolume snapshot -r %s/server %s/bare/one' "${volume[$name]}" "${volume[$name]}" ;;
        copy) printf 'cp -a %s %s/bare/one' "${data[$name]}" "$dir" ;;
        reflink) printf 'cp -a --reflink=always %s %s/bare/one' "${data[$name]}" "${volume[$name]}" ;;
        lvm-thick) printf 'lvcreate -q -s -L 512M -n bare bench%s/server >/dev/null' "$name" ;;
        lvm-thin) printf 'lvcreate -q -s -n bare bench%s/server >/dev/null' "$name" ;;
        zfs) printf 'zfs snapshot bench%s/server@bare' "$name" ;;
    esac
}

# Removes what `snapshot_command` made.
remove_bare() {
    local name=$1
    case ${backend_of[$name]} in
        btrfs) btrfs -q subvolume delete -c "${volume[$name]}/bare/one" ;;
        copy) rm -rf "$dir/bare/one" ;;
        reflink) rm -rf "${volume[$name]}/bare/one" ;;
        lvm-thick | lvm-thin) lvremove -q -q -f "bench$name/bare" >/dev/null ;;
        zfs) zfs destroy "bench$name/server@bare" ;;
    esac
    settle_volume "$name"
}

# What a removal left to be written must not be written in the next side's pause.
settle_volume() {
    case ${backend_of[$1]} in
        lvm-* | zfs) sync ;;
        btrfs | reflink) btrfs filesystem sync "${volume[$1]}" ;;
        copy) sync -f "$dir" ;;
    esac
}

# ---- servers

# start_server NAME ID: on NAME's volume, or without one in the temporary directory; by `supervisor`
# of the caller, if that is set.
start_server() {
    local name=$1 log=$dir/$1.log
    port[$name]=$(free_port)
    : "${data[$name]:=$dir/$name-data}"
    mkdir -p "${data[$name]}"
    local -a flags=(--no-defaults --user=root --datadir="${data[$name]}" --socket="$dir/$name.sock"
        --port="${port[$name]}" --bind-address=127.0.0.1 --server-id="$2" --log-bin=binlog --relay-log=relay
        --pid-file="$dir/$name.pid" --innodb-buffer-pool-size=128M)
    ! in_guest || flags+=(--innodb-use-native-aio=0)
    if [[ $flavour == mysql ]]; then
        cp -a "$lab/mysql-9.7/template/." "${data[$name]}/"
        flags+=(--secure-file-priv= --mysqlx=0 --gtid-mode=ON --enforce-gtid-consistency=ON)
        set -- "$lab/mysql-9.7/bin/mysqld"
    else
        cp -a "$lab/mariadb/template/." "${data[$name]}/"
        flags+=(--log-slave-updates)
        set -- "$lab/mariadb/bin/mariadbd"
    fi
    chown -R root: "${data[$name]}"
    ${supervisor:-} "$@" "${flags[@]}" >"$log" 2>&1 &
    pid[$name]=$!
    for _ in $(seq 900); do
        ! sql "$name" "DO 1" 2>/dev/null || return 0
        kill -0 "${pid[$name]}" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 20 "$log" >&2
    die "$name did not start" "See its log above."
}

# supervise COMMAND…: starts it again when it ends to be started again, as mysqld_safe does.
supervise() {
    local server status=16 own=$BASHPID
    trap 'kill "$server"' TERM
    while ((status == 16)); do
        MYSQLD_PARENT_PID=$own "$@" &
        server=$!
        status=0
        wait "$server" || status=$?
    done
    # A signal ends the first wait only.
    wait "$server" || true
}

# A port on which nobody answers now.
free_port() {
    local candidate
    for _ in $(seq 50); do
        candidate=$((20000 + RANDOM % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null || { printf '%s\n' "$candidate"; return; }
    done
    return 1
}

client_argv() {
    local program="$lab/mariadb/bin/mariadb --no-defaults"
    # Its commands (\G, \!) are off by default.
    [[ $flavour == mariadb ]] || program="$lab/mysql-9.7/bin/mysql --no-defaults --commands --system-command"
    printf '%s -uroot --socket=%s/%s.sock -N -B' "$program" "$dir" "$1"
}

# shellcheck disable=SC2046,SC2091 # the words of client_argv are meant to be split
sql() { $(client_argv "$1") -e "$2"; }

start_source() {
    start_server source 1
    sql source "CREATE USER repl@'127.0.0.1' IDENTIFIED BY 'bench'; GRANT REPLICATION SLAVE ON *.* TO repl@'127.0.0.1';
        CREATE DATABASE bench; CREATE TABLE bench.mark (id INT PRIMARY KEY);"
    local writer
    for writer in 1 2 3 4; do
        sql source "CREATE TABLE bench.load_$writer (id INT PRIMARY KEY, note VARCHAR(200), n INT NOT NULL DEFAULT 0)"
    done
}

# start_replica NAME ID DATA_MB, and its entry in the configuration.
start_replica() {
    start_server "$1" "$2"
    if [[ $flavour == mysql ]]; then
        sql "$1" "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=${port[source]}, SOURCE_USER='repl',
            SOURCE_PASSWORD='bench', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
    else
        sql "$1" "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=${port[source]}, MASTER_USER='repl',
            MASTER_PASSWORD='bench', MASTER_USE_GTID=slave_pos; START SLAVE"
    fi
    sql source "INSERT INTO bench.mark VALUES ($2)"
    wait_for_mark "$1" "$2"
    fill "$1" "$3"
    sql "$1" "SET GLOBAL read_only = 1"
    {
        printf '[server.%s]\nsocket = "%s/%s.sock"\ncredentials = "%s/credentials.cnf"\n' "$1" "$dir" "$1" "$dir"
        printf '[server.%s.snapshot]\nbackend = "%s"\nmax_pause = "120s"\n' "$1" "${backend_of[$1]/#lvm*/lvm}"
        case ${backend_of[$1]} in
            copy) printf 'directory = "%s/copies"\n' "$dir"; mkdir -p "$dir/copies" ;;
            reflink) printf 'directory = "%s/copies"\n' "${volume[$1]}"; mkdir "${volume[$1]}/copies" ;;
            lvm-thick) printf 'cow_size = "512MiB"\n' ;;
        esac
    } >>"$dir/understudy.toml"
}

wait_for_mark() {
    for _ in $(seq 600); do
        [[ $(sql "$1" "SELECT COUNT(*) FROM bench.mark WHERE id = $2" 2>/dev/null) != 1 ]] || return 0
        sleep 0.2
    done
    die "$1 doesn't replicate" "See $dir/$1.log."
}

# About MB of rows of 64 KiB in eight tables, on this replica alone: how the data came to be there
# is of no account to a pause, and the source needs no room for it.
fill() {
    local name=$1 rows_per_table=$(($2 * 2)) table left step
    for table in 1 2 3 4 5 6 7 8; do
        printf 'USE bench; SET sql_log_bin = 0; CREATE TABLE bench.data_%d (id INT AUTO_INCREMENT PRIMARY KEY, note MEDIUMTEXT);\n' "$table"
        for ((left = rows_per_table; left > 0; left -= step)); do
            step=$((left < 500 ? left : 500))
            printf 'INSERT INTO bench.data_%d (note) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT REPEAT(HEX(RANDOM_BYTES(16)), 2048) FROM n;\n' "$table" "$step"
        done
    done >"$dir/fill.sql"
    # shellcheck disable=SC2046 # the words of client_argv are meant to be split
    $(client_argv "$name") <"$dir/fill.sql"
}

# ---- load

# Four connections that write to the source faster than one applier follows. Ends by itself after
# load_limit_s, at `stop_load`, and when its server goes.
start_load() {
    local writer
    rm -f "$dir/load-ends"
    for writer in 1 2 3 4; do
        # shellcheck disable=SC2046,SC2091 # the words of client_argv are meant to be split
        write_statements "$writer" 2>/dev/null | $(client_argv source) >/dev/null 2>&1 &
        load_pids+=($!)
    done
}

write_statements() {
    local writer=$1 end=$((SECONDS + load_limit_s)) from row values
    while ((SECONDS < end)) && [[ ! -e $dir/load-ends ]]; do
        from=$((RANDOM % 10000))
        values=
        for ((row = from; row < from + 20; row++)); do values+=",($row, REPEAT('$RANDOM', 20), 0)"; done
        printf 'REPLACE INTO bench.load_%d VALUES %s;\nUPDATE bench.load_%d SET n = n + 1 WHERE id BETWEEN %d AND %d;\n' \
            "$writer" "${values:1}" "$writer" "$from" "$((from + 50))"
    done
}

stop_load() {
    touch "$dir/load-ends"
    local item
    for item in "${load_pids[@]}"; do wait "$item" || true; done
    load_pids=()
}

# Seconds behind the source, or - where the server can't tell.
lag_of() {
    local statement='SHOW ALL SLAVES STATUS\G' column=Seconds_Behind_Master
    [[ $flavour == mariadb ]] || { statement='SHOW REPLICA STATUS\G' column=Seconds_Behind_Source; }
    # shellcheck disable=SC2046 # the words of client_argv are meant to be split
    $(client_argv "$1" | sed 's/ -N -B//') -e "$statement" | sed -n "s/^ *$column: //p"
}
