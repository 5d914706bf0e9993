# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read where this is sourced
# Sourced by tools/wasm, tools/narrow and tools/package: builds for another target or by another Rust than the machine's own. `why` gets the reason of a
# failure.

rustup_patience=120 # seconds: it may hang without a network
why=

# Nobody measures it: what compiles fastest.
quickest=(--config 'profile.dev.opt-level=0' --config 'profile.dev.debug=false' --config 'profile.dev.package."*".opt-level=0')

# own_folder NAME: sets D to a folder of its own, for what is built and unpacked.
own_folder() {
  D=${CARGO_TARGET_DIR:-target}/$1
  [[ $D == /* ]] || D=$PWD/$D
  mkdir -p "$D"
}

# has_std TRIPLE: whether rustc has a compiled standard library for it.
has_std() { compgen -G "$(rustc --print target-libdir --target "$1")/libstd-*.rlib" >/dev/null; }

# patient CMD..: is stopped where it hangs.
patient() { if command -v timeout >/dev/null; then timeout "$rustup_patience" "$@"; else "$@"; fi; }

# std_from_rustup TRIPLE
std_from_rustup() {
  command -v rustup >/dev/null || { why="there is no rustup"; return 1; }
  why="rustup cannot fetch it"
  patient rustup target add "$1" && has_std "$1"
}
