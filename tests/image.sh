#!/usr/bin/env bash
# Build cluster/image.Dockerfile for real where no registry has Ray's image, and fit a run in it.
#   tests/image.sh [DIRECTORY]      as root, on Debian: apt-get install buildah debootstrap
# What stands in for Ray's image has what the file relies on: user `ray` (1000:100) with sudo and a
# Python of its own with headers, and no compiler. DIRECTORY keeps the root and the layers between
# calls. It takes minutes and some 10 GB.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(realpath -m "${1:-/tmp/raytower-image}")
mkdir -p "$work"
buildah="buildah --root $work/layers --runroot $work/run --storage-driver ${STORAGE_DRIVER:-vfs}"
base=$(sed -n 's/^ARG RAY=//p' cluster/image.Dockerfile)

if [ ! -e "$work/root/home/ray/anaconda3/bin/pip" ]; then
    [ -e "$work/root/usr/bin/python3.11" ] || debootstrap --variant=minbase \
        --include=sudo,ca-certificates,python3.11,python3-distutils,python3.11-dev,python3.11-venv \
        bookworm "$work/root" http://deb.debian.org/debian
    chroot "$work/root" useradd -ms /bin/bash -d /home/ray ray --uid 1000 --gid 100
    echo 'ray ALL=NOPASSWD: ALL' >> "$work/root/etc/sudoers"
    chroot "$work/root" su ray -c 'python3.11 -m venv /home/ray/anaconda3'
    # How this machine reaches packages.
    cp /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/"
    if [ -e /etc/pip.conf ]; then cp /etc/pip.conf "$work/root/etc/"; fi
fi
! chroot "$work/root" sh -c 'command -v g++' || { echo "Ray's image has no compiler" >&2; exit 1; }

if ! $buildah inspect --type image "$base" > "$work/inspect.log" 2>&1; then
    container=$($buildah from scratch)
    # A copy that keeps owners, which `add` makes root.
    cp -a "$work/root/." "$($buildah mount "$container")"
    $buildah config --user 1000 --workingdir /home/ray --env HOME=/home/ray \
        --env PATH=/home/ray/anaconda3/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        --env PIP_RETRIES=1 $(env | sed -n 's/^\(PIP_[A-Z_]*=[^ ]*\)$/--env \1/p') "$container"
    $buildah commit -q --rm "$container" "$base"
fi

wheels=(); [ ! -d /opt/wheels ] || wheels=(--volume /opt/wheels:/opt/wheels:ro)
$buildah bud --layers --pull-never --isolation chroot --network host "${wheels[@]}" \
    -f cluster/image.Dockerfile -t raytower .

# The image has no code of ours: a job brings it, here a folder that `ray` may read.
code=$(mktemp -d); trap 'rm -rf "$code"' EXIT
git archive HEAD | tar -x -C "$code"
cat > "$code/run.toml" <<'END'
[data]
name = "generated"
users = 300
items = 100
interactions = 6000
[train]
epochs = 1
workers = 1
END
chmod -R a+rX "$code"
container=$($buildah from --pull-never localhost/raytower)
within() {
    $buildah run --isolation chroot --network host --volume "$code:/mnt/code:ro" \
        --workingdir /mnt/code "$container" -- "$@"
}
within python -c 'import hnswlib, mlflow, onnxruntime, sentence_transformers, os; print("user", os.getuid())'
within python -m train fit run.toml --storage /home/ray/runs --no-page
$buildah rm "$container"
