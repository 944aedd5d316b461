# Shared by demo and test: what must be installed. Sourced, not run.

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# How to get root's rights: nothing to do, without or with a password that a person at a terminal types; or not at all.
rights() {
  if [ "$(id -u)" = 0 ]; then echo root
  elif ! command -v sudo >/dev/null; then echo none
  elif sudo -n true 2>/dev/null; then echo sudo
  elif [ -t 0 ] && [ -t 2 ]; then echo password
  else echo none; fi
}

# need COMMAND=PACKAGE..: installs the Debian packages of the commands that are missing.
need() {
  local pair missing=() as=() log
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null 2>&1 || [ -e "${pair%%=*}" ] || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  command -v apt-get >/dev/null || die "please install: ${missing[*]} (Debian's names)"
  case $(rights) in
    root) ;;
    sudo) as=(sudo -n) ;;
    password)
      say "to install ${missing[*]}, sudo asks for your password"
      sudo -v || die "without it, please have installed, as root: apt-get install ${missing[*]}"
      as=(sudo) ;;
    none) die "please have installed, as root: apt-get install ${missing[*]}" ;;
  esac
  say "installing ${missing[*]}"
  log=$(mktemp)
  if ! "${as[@]}" env DEBIAN_FRONTEND=noninteractive sh -c \
    'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"' sh "${missing[@]}" >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    die "could not install them; as root: apt-get install ${missing[*]}"
  fi
  rm -f "$log"
}

# What building and running needs. librdkafka is built from source with OpenSSL and zlib.
need_to_run() {
  need java=openjdk-17-jre-headless mvn=maven unzip=unzip cc=build-essential make=build-essential \
    g++=build-essential pkg-config=pkg-config curl=curl /usr/include/openssl/ssl.h=libssl-dev \
    /usr/include/zlib.h=zlib1g-dev /etc/ssl/certs/ca-certificates.crt=ca-certificates
  # The page is packed with one of the two.
  command -v node >/dev/null || need brotli=brotli
  [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
  if ! command -v cargo >/dev/null; then
    say "installing Rust with rustup"
    curl -fsSL https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy >/dev/null 2>&1 ||
      die "there is no cargo and rustup could not be fetched: install Rust 1.90 or later (https://rustup.rs)"
    . "$HOME/.cargo/env"
  fi
}

# quietly WHAT LOG COMMAND..: runs with one status line; on failure shows the end of the log.
quietly() {
  local what=$1 log=$2 began=$SECONDS pid code=0
  shift 2
  "$@" >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if [ -t 1 ] && [ $((SECONDS - began)) -ge 1 ]; then
      printf '\r\033[2K%s: %s s  %.70s' "$what" $((SECONDS - began)) "$(tail -n 1 "$log" | tr -d '\r')"
    elif [ $((SECONDS - began)) -ge 15 ] && [ -z "${said:-}" ]; then
      local said=1
      say "$what (the first time takes some minutes; log: $log)"
    fi
  done
  wait "$pid" || code=$?
  [ -t 1 ] && printf '\r\033[2K'
  if [ $code != 0 ]; then
    tail -n 30 "$log" >&2
    say "$what failed after $((SECONDS - began)) s; the whole log: $log" >&2
  fi
  return $code
}

# build: release binaries and the page.
build() {
  target=${CARGO_TARGET_DIR:-$PWD/target}
  mkdir -p "$target"
  quietly "building Millrace" "$target/build.log" cargo build --release || exit 1
  if [ -x scripts/build-dashboard ]; then
    quietly "building the page" "$target/build-dashboard.log" scripts/build-dashboard || exit 1
  fi
  export MILLRACE_DASHBOARD_DIR="$PWD/dashboard/dist"
}
