# shellcheck shell=bash
# Sourced by tools/drivers, tools/wasm and tools/browser/chromium: Debian packages through apt, without root and without installing anything.
# D is the folder that holds apt's state, the log (setup.log) and what is unpacked; `why` gets the reason of a failure.

# private_apt SUITE: points apt at a state of our own, in which nothing is installed, so that it downloads dependencies
# too, never needs root and leaves the machine alone. SUITE `own` takes the machine's sources, any other name a suite of
# the Debian mirror among them.
private_apt() {
  local a=$D/apt/$1 key=/usr/share/keyrings/debian-archive-keyring mirror suite
  mkdir -p "$a"/lists/partial "$a"/cache/archives/partial "$a"/none
  : >"$a/status"
  cat >"$a/apt.conf" <<CONF
Dir::State "$a"; Dir::State::Lists "$a/lists"; Dir::State::status "$a/status"; Dir::Cache "$a/cache"; Dir::Log "$a";
APT::Sandbox::User "root"; APT::Install-Recommends "false"; Acquire::Languages "none";
Acquire::Check-Valid-Until "false"; // machines with a pinned mirror or an old clock
Acquire::Retries "2"; Acquire::http::Timeout "30"; Acquire::https::Timeout "30";
CONF
  if [[ $1 != own ]]; then
    # shellcheck disable=SC2016 # those are apt's variables. Only apt itself knows which of its sources are Debian's: files come in two syntaxes, and mirrors have any name.
    mirror=$(APT_CONFIG=$D/apt/own/apt.conf apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
      awk '$1 == "Debian" && $2 == "Debian" {print $3; exit}')
    [[ -n $mirror ]] || { why="apt is configured with no Debian mirror"; return 1; }
    if [[ -e $key.gpg ]]; then key+=.gpg; else key+=.pgp; fi # the name has changed in newer releases
    [[ -e $key ]] || { why="no Debian keys: install debian-archive-keyring"; return 1; }
    for suite in ${1%-backports} "$1"; do echo "deb [signed-by=$key] $mirror $suite main"; done | sort -u >"$a/sources.list"
    cat >>"$a/apt.conf" <<CONF
Dir::Etc::SourceList "$a/sources.list"; Dir::Etc::SourceParts "$a/none";
Dir::Etc::Preferences "/dev/null"; Dir::Etc::PreferencesParts "$a/none"; APT::Default-Release "$1";
CONF
  fi
  export APT_CONFIG=$a/apt.conf
  # One dead source of many fails an update; whether it mattered shows at the download.
  [[ -e $a/updated ]] || quietly apt-get -q update || true
  compgen -G "$a/lists/*Release" >/dev/null || { why="apt-get update failed, see $D/setup.log"; return 1; }
  : >"$a/updated"
}

quietly() { echo "+ $*" >>"$D/setup.log"; "$@" >>"$D/setup.log" 2>&1 </dev/null; }

# download PACKAGE..: them and what they depend on, into the private cache; a second try for networks that blink.
download() {
  local try
  for try in 1 2; do
    rm -f "$(dirname "$APT_CONFIG")"/cache/archives/*.deb
    quietly apt-get -q -y --download-only install "$@" && return
    [[ $try == 2 ]] || { sleep 3; quietly apt-get -q update || true; }
  done
  why=$(grep '^E: ' "$D/setup.log" | tail -n 1) || true
  why="cannot download $1: ${why:-see $D/setup.log}"
  return 1
}

# unpack ROOT [PACKAGE_TO_SKIP..]: the downloaded packages, less what only an installed one needs.
unpack() {
  local root=$1 deb skip
  shift
  mkdir -p "$root/usr/lib"
  ln -s usr/lib "$root/lib" # packages before trixie have /lib next to /usr/lib; the link joins them
  for deb in "$(dirname "$APT_CONFIG")"/cache/archives/*.deb; do
    for skip; do [[ $(basename "$deb") != "${skip}_"* ]] || continue 2; done
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink --exclude=./etc --exclude=./var \
      --exclude=./usr/share/{doc,info,locale,lintian,man} || { why="cannot unpack $(basename "$deb")"; return 1; }
  done
  rm -f "$(dirname "$APT_CONFIG")"/cache/archives/*.deb
}

# The folder of libraries in an unpacked root: its name differs between architectures.
libs() { local l=("$1"/usr/lib/*-linux-gnu*); echo "${l[0]}"; }
