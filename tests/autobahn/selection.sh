# Which cases of the Autobahn TestSuite are left out; sourced by the runners, never run by itself.
# shellcheck shell=bash

# excluded sample|full: the cases left out, as the suite wants to read them. The sample is without
# the 132 cases of large compressed messages, over which the suite itself computes for most of ten
# minutes.
excluded() {
    local section case separator=
    [ "$1" = sample ] || return 0
    for section in 12 13; do
        for case in 7 8 9 10 12 13 14 15 16 17 18; do
            printf '%s"%s.*.%s"' "$separator" "$section" "$case"
            separator=', '
        done
    done
}
