# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read where this is sourced
# Sourced by scripts of tools: goes to the repository's root, sees to Rust, a C linker and drivers, and knows
# how to run something on one driver. Works with bash 3.2 (macOS) and git-bash (Windows), too.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
loom=${CARGO_TARGET_DIR:-target}/debug/loom
out=${CARGO_TARGET_DIR:-target}/tileloom # records and logs
[[ $out == /* ]] || out=$PWD/$out

stop() { echo "$(basename "$0"): $*" >&2; exit 2; }
debian() { [[ $(uname -s) == Linux ]] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; }

need_rust() {
  command -v cargo >/dev/null || PATH=$PATH:$HOME/.cargo/bin
  command -v cargo >/dev/null || stop "cargo is missing: install Rust with rustup, then run this again"
}

# What rustc links with; on Windows it finds one by itself.
need_linker() {
  local system
  system=$(uname -s)
  [[ $system == Linux || $system == Darwin ]] && ! command -v cc >/dev/null || return 0
  [[ $system == Linux ]] || stop "there is no C linker: run  xcode-select --install"
  debian || stop "there is no C linker: install gcc"
  [[ $(id -u) == 0 ]] || stop "there is no C linker: run  sudo apt-get install build-essential"
  echo "installing build-essential: rustc needs a C linker"
  apt-get -q update
  DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends build-essential
}

# EGL and Mesa complain without a folder that is the user's alone.
need_runtime_dir() {
  [[ $(uname -s) == Linux && ! -d ${XDG_RUNTIME_DIR:-} ]] || return 0
  export XDG_RUNTIME_DIR=$out/runtime
  mkdir -p "$XDG_RUNTIME_DIR"
  chmod 700 "$XDG_RUNTIME_DIR"
}

# Sets drivers to the names that are ready, and missing to the lines NAME: REASON of those that are not.
need_drivers() {
  missing=
  if debian; then
    tools/drivers setup </dev/null | tee "$out/drivers" || true
    missing=$(awk '$2 == "missing" { name = $1; $1 = $2 = ""; sub(/^ */, ""); print name ": " $0 }' "$out/drivers")
  fi
  drivers=$(tools/drivers list)
}

no_driver="no driver is ready; on Debian and Ubuntu  apt-get install mesa-vulkan-drivers  installs one"

prepare() {
  need_rust
  need_linker
  mkdir -p "$out"
  need_runtime_dir
  need_drivers
  runner=CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER
}

# on NAME CMD..: CMD is cargo, and starts what it has built with that driver and no other in sight.
on() {
  local name=$1
  shift
  if [[ $name == native ]]; then "$@"; else env "$runner=tools/drivers run $name" "$@"; fi
}

# With the examples, which nobody needs here, cargo resolves the same features as for tests, and builds nothing twice.
build_loom() { cargo build --workspace --bin loom --examples; }

# Where crates outside of the workspace are built.
outside() {
  local target=${CARGO_TARGET_DIR:-target}
  [[ $target == /* ]] || target=$PWD/$target
  echo "$target/outside"
}
