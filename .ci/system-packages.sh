#!/usr/bin/env bash
# Installs the system packages that are missing, and only those; does nothing where nothing is missing.
#
#   .ci/system-packages.sh venv        what `python3 -m venv` needs
#   .ci/system-packages.sh compiler    what the `pesq` package needs to be built
#   .ci/system-packages.sh ffmpeg      what the tests of pipes need
#   .ci/system-packages.sh chromium    what the tests of the service's page need
#
# It needs root and apt-get. Without them it says what is missing and goes on: some machines do without.
set -euo pipefail

python=${PYTHON:-python3}
missing=()

for group in "$@"; do
    case $group in
    venv)
        "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
        ;;
    compiler)
        command -v cc >/dev/null || missing+=(gcc libc6-dev)
        headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
        [[ -e $headers/Python.h ]] || missing+=(python3-dev)
        # The wheels of soundfile carry libsndfile for these two; other processors take the system's.
        [[ $(uname -m) =~ ^(x86_64|aarch64)$ ]] || missing+=(libsndfile1)
        ;;
    ffmpeg)
        command -v ffmpeg >/dev/null || missing+=(ffmpeg)
        ;;
    chromium)
        command -v chromium >/dev/null || missing+=(chromium)
        ;;
    *)
        echo "system-packages.sh: found $group, expected venv, compiler, ffmpeg or chromium." >&2
        exit 2
        ;;
    esac
done

((${#missing[@]})) || exit 0

if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
    echo "Missing system packages (Debian's names): ${missing[*]}." >&2
    echo "They are installed here by root with apt-get alone; on this machine, please install them yourself." >&2
    exit 0
fi

echo "Installing missing system packages (up to 500 MB, a minute or two): ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
