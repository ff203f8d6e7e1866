# shellcheck shell=bash
# Sourced by the other lab scripts: an apt of our own beside the machine's.
#
# Owns: $LAB/apt (indexes and downloaded packages of suites the machine does not use).
# Must not: change the machine's apt sources, indexes or installed packages, or trust
# an unsigned index. Mirrors are derived from the machine's own sources, never written here.

LAB=${UNDERSTUDY_LAB:-/var/cache/understudy-lab}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { printf '%s: error: %s\n' "${0##*/}" "$1" >&2; [[ -z ${2:-} ]] || printf 'hint: %s\n' "$2" >&2; exit 1; }

# One line per source of the machine, whichever of .list and .sources it stands in:
# "uri suite component origin".
# shellcheck disable=SC2016 # the dollars are apt's
machine_sources() {
    apt-get indextargets \
        --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' | sort -u
}

# The mirror that serves Debian itself (not its security archive).
debian_mirror() {
    if [[ -n ${UNDERSTUDY_LAB_DEBIAN_MIRROR:-} ]]; then
        printf '%s\n' "$UNDERSTUDY_LAB_DEBIAN_MIRROR"
        return
    fi
    local mirror
    mirror=$(machine_sources | awk '$4 == "Debian" && $1 !~ /security/ { print $1; exit }')
    [[ -n $mirror ]] || die "this machine's apt sources name no Debian mirror" \
        "run apt-get update first; on another distribution set UNDERSTUDY_LAB_DEBIAN_MIRROR to a Debian mirror's address and install debian-archive-keyring"
    printf '%s\n' "$mirror"
}

# Its security archive as the machine's sources name it, or nothing.
debian_security_mirror() {
    machine_sources | awk '$4 == "Debian" && $1 ~ /security/ { print $1; exit }'
}

debian_keyring() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [[ -r $keyring ]] || die "$keyring is missing" "apt-get install debian-archive-keyring"
    printf '%s\n' "$keyring"
}

# private_apt NAME COMMAND…: apt-get with the sources of $LAB/apt/NAME/sources.list only.
private_apt() { with_private_apt "$1" apt-get -q -y "${@:2}"; }

# with_private_apt NAME PROGRAM…: one of apt's programs so.
with_private_apt() {
    local root=$LAB/apt/$1
    shift
    "$@" \
        -o Dir::Etc::sourcelist="$root/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$root/lists" -o Dir::Cache::archives="$root/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o APT::Sandbox::User=root -o Acquire::Retries=3 -o APT::Get::AllowUnauthenticated=false
}

# private_apt_prepare NAME: reads "deb …" lines on stdin and fetches their signed indexes.
private_apt_prepare() {
    local root=$LAB/apt/$1
    mkdir -p "$root/lists/partial" "$root/archives/partial"
    cat >"$root/sources.list"
    private_apt "$1" --error-on=any update >"$root/update.log" 2>&1 ||
        { cat "$root/update.log" >&2; die "failed to update the indexes of $1"; }
}

# package_versions NAME PACKAGE: those on offer, the newest first.
package_versions() { with_private_apt "$1" apt-cache madison "$2" | awk '{ print $3 }' | uniq; }

# resolve_packages NAME PACKAGE…: what an installation onto an empty machine would take, by name.
resolve_packages() {
    local name=$1
    shift
    : >"$LAB/apt/$name/empty-status"
    private_apt "$name" -o Dir::State::status="$LAB/apt/$name/empty-status" --no-install-recommends \
        --print-uris install "$@" | sed -n "s/^'[^']*' \([^_ ]*\)_.*/\1/p"
}

# fetch_debs NAME PACKAGE…: these very packages into $LAB/apt/NAME/archives, and nothing else there.
fetch_debs() {
    local name=$1 root=$LAB/apt/$1
    shift
    rm -f "$root"/archives/*.deb
    (cd "$root/archives" && private_apt "$name" download "$@") >"$root/download.log" 2>&1 ||
        { cat "$root/download.log" >&2; die "failed to fetch $*"; }
}

# unpack_debs ROOT DEB…: the packages' files only; no maintainer script runs. The old
# top-level directories lead into /usr, as on the machine itself.
unpack_debs() {
    local root=$1 deb directory
    shift
    mkdir -p "$root"
    for directory in bin sbin lib lib64; do
        [[ -e $root/$directory ]] || { mkdir -p "$root/usr/$directory" && ln -s "usr/$directory" "$root/$directory"; }
    done
    for deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root"; done
}
