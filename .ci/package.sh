#!/usr/bin/env bash
# Builds the sdist, and the wheel from it, and uses both as somebody does who has only installed them: each in an environment
# of its own, outside of the sources. The dependencies are those of the environment of $PYTHON, which are not installed again.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON="$(cd "$(dirname "${PYTHON:-.venv/bin/python}")" && pwd)/python"
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT

rm -rf dist
# One after the other, since the second is made from what the first holds. --no-isolation: by the locked setuptools.
"$PYTHON" -m build --no-isolation --outdir dist . > "$place/build.log" 2>&1 || { cat "$place/build.log"; exit 1; }
ls -l dist
# The pretrained models are pulled by name: the packages have their index alone.
for names in "$("$PYTHON" -m zipfile -l dist/*.whl)" "$("$PYTHON" -m tarfile -l dist/*.tar.gz)"; do
    grep -q "model/pretrained.json" <<< "$names"
    if grep "\.safetensors" <<< "$names"; then exit 1; fi
done

# An environment with one of the files, beside the dependencies of $PYTHON.
install() {
    "$PYTHON" -m venv "$place/$1"
    site="$("$place/$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    "$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$site/dependencies.pth"
    # The setuptools that venv brings along before Python 3.12 is older than that of the lock.
    "$place/$1/bin/python" -m pip uninstall --quiet --yes --disable-pip-version-check setuptools
    "$place/$1/bin/python" -m pip install --quiet --disable-pip-version-check --ignore-installed --no-deps \
        --no-build-isolation "$2"
    (cd "$place" && "$place/$1/bin/python" - <<'PYTHON'
import pathlib, sysconfig
import convae

home = pathlib.Path(convae.__file__).parent
assert home.is_relative_to(sysconfig.get_path("purelib")), f"not what was installed: {home}"
assert (home / "py.typed").is_file()
PYTHON
    )
}
unset PYTHONPATH
install venv dist/*.whl
install from-sdist dist/*.tar.gz

cd "$place"
convae="$place/venv/bin/convae"
"$convae" --help > /dev/null
"$convae" recipes
"$convae" models
"$place/from-sdist/bin/convae" recipes | diff - <("$convae" recipes)
"$place/from-sdist/bin/convae" train demo --epochs 1 --device cpu --out run-of-sdist
"$convae" train demo --epochs 1 --device cpu --out run
"$convae" evaluate run --metrics elbo
"$convae" sample run --count 4 --label 3 --out samples
test -n "$(find samples -name '*.png')"

# The example of a package that adds pieces to convae: installed, tested, trained with and measured by.
cp -r "$OLDPWD/examples/plugin" plugin
"$PYTHON" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir wheels ./plugin
"$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps wheels/*.whl
"$place/venv/bin/python" -m pytest -q --rootdir plugin -c plugin/pyproject.toml plugin/tests
"$convae" train plugin/recipe.yaml --epochs 1 --device cpu --out rings
for refused in "evaluate rings" "sample rings --out refused" "train --resume rings" "train --start rings --out refused"; do
    code=0
    "$convae" $refused 2> refused.txt || code=$?
    test "$code" = 2 && grep -q -- "--trust convae_plugin_example" refused.txt
done
"$convae" evaluate rings --metrics mae --trust convae_plugin_example --json mae.json
grep -q '"mae"' mae.json
"$convae" sample rings --count 4 --trust convae_plugin_example --out rings-samples
"$place/venv/bin/python" - <<'PYTHON'
import convae

model = convae.load("rings", trust=["convae_plugin_example"])
assert list(model.spec.likelihood) == ["logistic"]
PYTHON
echo "wheel and sdist work: $(cd "$OLDPWD" && echo dist/*)"
