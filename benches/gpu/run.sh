#!/usr/bin/env bash
# Images a second of CLIP's image towers on this machine's GPU, by batch size: pgclip-encoder,
# the same ONNX file in ONNX Runtime's own Python package, and PyTorch's SDPA in fp16, in one run.
# Nothing is downloaded but Python packages: the weights are random.
#
#   benches/gpu/run.sh                                        everything; about 20 GB of disk below target/gpu
#   MODELS="ViT-B-32" BATCHES=1,8,64 SECONDS_EACH=3 benches/gpu/run.sh
#   DEVICE=cpu PYTHON=python3 MODELS=ViT-B-32 BATCHES=1,4 benches/gpu/run.sh     to try the script
#
# PYTHON names an interpreter that has numpy, onnxruntime (onnxruntime-gpu) and torch; else a virtual
# environment is made. The table is printed and written to target/gpu/results.md, the numbers to
# target/gpu/results.json.
set -euo pipefail
cd "$(dirname "$0")/../.."

MODELS=${MODELS:-ViT-B-32 ViT-L-14 ViT-bigG-14}
BATCHES=${BATCHES:-1,2,4,8,16,32,64,128,256}
DEVICE=${DEVICE:-cuda}
SECONDS_EACH=${SECONDS_EACH:-5}
work=target/gpu
mkdir -p "$work"

if [ -z "${PYTHON:-}" ]; then
  PYTHON=$work/python/bin/python
  if [ ! -e "$work/python/.done" ]; then
    # Both of CUDA 13, so that they share NVIDIA's libraries.
    python3 -m venv --clear "$work/python"
    "$PYTHON" -m pip install --quiet numpy torch==2.11.0 onnxruntime-gpu==1.31.1
    touch "$work/python/.done"
  fi
fi

# ONNX Runtime's CUDA provider looks for NVIDIA's libraries where the loader does.
packages=$("$PYTHON" -c 'import onnxruntime, os; print(os.path.dirname(os.path.dirname(onnxruntime.__file__)))')
libraries=$(find -L "$packages/nvidia" -type d -name lib 2>/dev/null | paste -sd: || true)
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
library=$(ls "$packages"/onnxruntime/capi/libonnxruntime.so.* | head -n 1)

cargo build --release --target-dir target -p pgclip-encoder
cargo build --release --target-dir target -p pgclip-export --example random
for model in $MODELS; do
  weights=$work/weights/$model
  [ -e "$weights/done" ] || { target/release/examples/random "$model" "$weights"; touch "$weights/done"; }
  [ -e "$work/models/$model/clip.json" ] ||
    target/release/pgclip-encoder convert "$weights" "$work/models/$model" --precision fp16
done
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || true
# shellcheck disable=SC2086  # a list of names
exec "$PYTHON" benches/gpu/bench.py --encoder target/release/pgclip-encoder --library "$library" \
  --device "$DEVICE" --batches "$BATCHES" --seconds "$SECONDS_EACH" --work "$work" $MODELS
