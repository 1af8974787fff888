#!/bin/sh
# resend: @ACTION@ the mails of incident @INCIDENT@ that are still queued here. Made @MADE@.
#
# Run it on the mail host, as root:
#   sh THIS              shows what it would do, changes nothing
#   sh THIS --yes        does it, and writes a result file
#   resend queue @INCIDENT@ --confirm RESULT       where resend runs, afterwards
#
# Options: --host NAME    the name of this host in the logs, where it is another one
#          --config DIR   of the Postfix instance (default: the main one)
#          --result FILE  where to write the result
#          --verbose      name every mail
#
# Each mail is looked up in the queue as it is now: queue id, arrival, sender and all of its remaining recipients must be
# those of the list at the end. A mail with a recipient outside of the incident is refused, and so is another mail that has
# got the queue id since. Only mail in the deferred and hold queues is touched: what is being delivered at this moment is left.
# Needs a POSIX shell and awk, and Postfix 3.1 (postqueue -j). Exit: 0 done, 3 something was refused or left, 1 error, 2 usage.

set -u
LC_ALL=C
export LC_ALL
umask 077
PATH=$PATH:/usr/sbin:/usr/local/sbin
incident='@INCIDENT@'
action='@ACTION@'

fail() {
    echo "error: $2" >&2
    exit "$1"
}

act=no host='' config='' result='' verbose=no
while [ $# -gt 0 ]; do
    case $1 in
    --yes) act=yes ;;
    --verbose) verbose=yes ;;
    --host | --config | --result)
        [ $# -ge 2 ] || fail 2 "$1 needs a value"
        case $1 in
        --host) host=$2 ;;
        --config) config=$2 ;;
        --result) result=$2 ;;
        esac
        shift
        ;;
    -h | --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) fail 2 "no such option: $1 (see --help)" ;;
    esac
    shift
done

for tool in awk postqueue postsuper postconf mktemp; do
    command -v "$tool" >/dev/null 2>&1 || fail 1 "there is no $tool here: run this on the mail host, as root"
done
work=$(mktemp -d) || fail 1 "no temporary directory"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

list() {
    cat <<'@END@'
@LIST@
@END@
}

# The rows of this host: its names as systems call it, whole and up to the first dot.
if [ -n "$host" ]; then
    printf '%s\n' "$host" >"$work/names"
else
    {
        uname -n
        hostname -f 2>/dev/null
        postconf ${config:+-c "$config"} -h myhostname 2>/dev/null
    } | awk 'NF { print $1; split($1, part, "."); print part[1] }' >"$work/names"
fi
list | awk -F '\t' -v names="$work/names" '
    BEGIN { while ((getline name < names) > 0) mine[tolower(name)] = 1 }
    tolower($1) in mine' >"$work/list"
if [ ! -s "$work/list" ]; then
    echo "this host is called: $(sort -u "$work/names" | tr '\n' ' ')" >&2
    echo "the list is for: $(list | cut -f 1 | sort -u | tr '\n' ' ')" >&2
    fail 2 "nothing in the list is for this host; if its logs call it by another name, say --host NAME"
fi
[ -n "$host" ] || host=$(head -n 1 "$work/list" | cut -f 1)

look() {
    postqueue ${config:+-c "$config"} -j >"$work/queue" 2>"$work/said" || {
        cat "$work/said" >&2
        fail 1 "postqueue -j failed: Postfix 3.1 or later must be running here"
    }
}

# Compares the list with the queue. One line for each recipient of the list: verdict, row, queue id, queue, reason.
# Verdicts: match, gone (not queued for that recipient any more), refused.
compare() {
    awk -F '\t' -v tolerance=30 '
    function norm(address,    at, where, local) {
        at = 0
        while ((where = index(substr(address, at + 1), "@")) > 0) at += where
        if (!at) return address
        local = substr(address, 1, at - 1)
        if (local ~ /^".*"$/ && length(local) > 1) {
            local = substr(local, 2, length(local) - 2)
            gsub(/\\/, "", local)
        }
        return local "@" tolower(substr(address, at + 1))
    }
    function hex(digits,    n, k) {
        n = 0
        for (k = 1; k <= length(digits); k++) n = n * 16 + index("0123456789abcdef", tolower(substr(digits, k, 1))) - 1
        return n
    }
    function plain(text,    out, at, c, code) {
        out = ""
        while ((at = index(text, "\\")) > 0) {
            out = out substr(text, 1, at - 1)
            c = substr(text, at + 1, 1)
            text = substr(text, at + 2)
            if (c == "u") {
                code = substr(text, 1, 4)
                if (code !~ /^00[0-7][0-9a-fA-F]$/ || code == "0000") unreadable = 1
                else out = out sprintf("%c", hex(code))
                text = substr(text, 5)
            } else if (index("\"\\/", c) > 0) out = out c
            else if (index("bfnrt", c) > 0) out = out "?"
            else unreadable = 1
        }
        return out text
    }
    # The next token of L from P: T is its kind ("s" string, "w" number or word, a mark, "" the end, "?" no JSON), V its text.
    function token(    piece) {
        while (substr(L, P, 1) ~ /^[ \t\r]$/) P++
        T = substr(L, P, 1)
        if (T == "") return
        if (index("{}[]:,", T) > 0) {
            P++
            return
        }
        piece = substr(L, P, 4096)
        if (T == "\"") {
            if (!match(piece, /^"([^"\\]|\\.)*"/)) {
                piece = substr(L, P)
                if (!match(piece, /^"([^"\\]|\\.)*"/)) {
                    T = "?"
                    return
                }
            }
            V = plain(substr(piece, 2, RLENGTH - 2))
            T = "s"
        } else if (match(piece, /^[-+.0-9A-Za-z]+/)) {
            V = substr(piece, 1, RLENGTH)
            T = "w"
        } else {
            T = "?"
            return
        }
        P += RLENGTH
    }
    # One JSON value at `path`; keeps what is needed of a line of postqueue -j. 0: not as it should be.
    function value(path,    key) {
        token()
        if (T == "s" || T == "w") {
            if (path == ".recipients[].address") {
                if (T != "s") return 0
                rcpt[++rcpts] = V
            } else if (path in field) return 0
            else if (path !~ /\[\]/) {
                field[path] = V
            }
            return 1
        }
        if (T == "{") {
            token()
            if (T == "}") return 1
            for (;;) {
                if (T != "s") return 0
                key = V
                token()
                if (T != ":" || !value(path "." key)) return 0
                token()
                if (T == "}") return 1
                if (T != ",") return 0
                token()
            }
        }
        if (T == "[") {
            token()
            if (T == "]") return 1
            if (T != "{") return 0
            P--
            for (;;) {
                objects++
                if (!value(path "[]")) return 0
                token()
                if (T == "]") return 1
                if (T != ",") return 0
            }
        }
        return 0
    }
    function parse(line) {
        split("", field)
        split("", rcpt)
        rcpts = objects = unreadable = 0
        L = line
        P = 1
        if (!value("")) return 0
        token()
        return T == "" && !unreadable && rcpts > 0 && rcpts == objects && \
            (".queue_id" in field) && (".queue_name" in field) && (".sender" in field) && \
            field[".arrival_time"] ~ /^[0-9]+$/
    }
    function tell(entry, verdict, queue, why,    k) {
        for (k = 1; k <= count[entry]; k++) print verdict "\t" row[entry, k] "\t" id[entry] "\t" queue "\t" why
        told[entry] = 1
    }
    function refuse(qid, queue, why,    k) {
        for (k = 1; k <= lives[qid]; k++) if (!(life[qid, k] in told)) tell(life[qid, k], "refused", queue, why)
    }

    FILENAME == ARGV[1] {
        entry = $2 SUBSEP $3
        if (!(entry in count)) {
            life[$2, ++lives[$2]] = entry
            order[++entries] = entry
            id[entry] = $2
            arrival[entry] = $3
            sender[entry] = norm($4)
        } else if (sender[entry] != norm($4)) mixed[entry] = 1
        row[entry, ++count[entry]] = $6
        to[entry, count[entry]] = norm($5)
        known[entry, norm($5)] = 1
        next
    }
    {
        # Only lines that name a listed id are read whole. A quote inside a JSON string is escaped, so this is the key.
        if (match($0, /"queue_id": *"[0-9A-Za-z]+"/)) {
            qid = substr($0, RSTART, RLENGTH - 1)
            sub(/^"queue_id": *"/, "", qid)
            if (!(qid in lives)) next
        } else qid = ""
        if (!parse($0)) {
            if (qid == "") next
            refuse(qid, "", "its line of postqueue -j cannot be read")
            next
        }
        qid = field[".queue_id"]
        queue = field[".queue_name"]
        if (!(qid in lives)) next
        found = ""
        fits = 0
        for (k = 1; k <= lives[qid]; k++) {
            far = field[".arrival_time"] - arrival[life[qid, k]]
            if (far >= -tolerance && far <= tolerance) {
                found = life[qid, k]
                fits++
            }
        }
        if (fits > 1 || (found in told)) {
            refuse(qid, queue, "several mails of the list have this queue id and arrival")
            next
        }
        if (!fits) {
            refuse(qid, queue, "another mail has this queue id: it arrived " (field[".arrival_time"] - arrival[life[qid, 1]]) " s from the one of the list")
            next
        }
        if (found in mixed || norm(field[".sender"]) != sender[found]) {
            tell(found, "refused", queue, "its sender is not the one of the list")
            next
        }
        others = 0
        split("", here)
        for (k = 1; k <= rcpts; k++) {
            here[norm(rcpt[k])] = 1
            if (!((found, norm(rcpt[k])) in known)) others++
        }
        if (others) {
            tell(found, "refused", queue, others " of its " rcpts " recipients are outside of the incident")
            next
        }
        for (k = 1; k <= count[found]; k++)
            if (to[found, k] in here) print "match\t" row[found, k] "\t" qid "\t" queue "\t"
            else print "gone\t" row[found, k] "\t" qid "\t" queue "\tnot queued for this recipient any more"
        told[found] = 1
    }
    END {
        for (k = 1; k <= entries; k++) if (!(order[k] in told)) tell(order[k], "gone", "", "not in the queue any more")
    }' "$work/list" "$work/queue"
}

# The ids of a verdict file whose verdict is $2 and whose queue is $3, once each.
ids() {
    awk -F '\t' -v verdict="$2" -v queue="$3" '$1 == verdict && $4 == queue && !($3 in seen) { seen[$3] = 1; print $3 }' "$1"
}

# postsuper with option $1 on the ids in file $2, in queue $3 only.
super() {
    [ -s "$2" ] || return 0
    postsuper ${config:+-c "$config"} "$1" - "$3" <"$2" >"$work/said" 2>&1 || {
        tail -n 5 "$work/said" >&2
        echo "postsuper $1 said that something went wrong; what follows is what the queue shows" >&2
    }
}

# Mails that were put on hold by this run and do not fit when looked at again go back at once.
take_back() {
    awk -F '\t' 'NR == FNR { held[$1] = 1; next } $1 == "refused" && $4 == "hold" && ($3 in held) && !($3 in seen) { seen[$3] = 1; print $3 }' \
        "$work/todo" "$1" >"$work/back"
    super -H "$work/back" hold
}

look
compare >"$work/before"
case $action in
hold | delete) ids "$work/before" match deferred >"$work/todo" ;;
release) ids "$work/before" match hold >"$work/todo" ;;
esac

if [ "$act" = yes ]; then
    [ "$(id -u)" -eq 0 ] || fail 1 "postsuper needs root"
    case $action in
    hold)
        super -h "$work/todo" deferred
        look
        compare >"$work/after"
        take_back "$work/after"
        ;;
    release)
        super -H "$work/todo" hold
        look
        compare >"$work/after"
        ;;
    delete) # on hold nothing can happen to a mail between the last look and its end
        super -h "$work/todo" deferred
        look
        compare >"$work/between"
        take_back "$work/between"
        ids "$work/between" match hold >"$work/doomed"
        super -d "$work/doomed" hold
        look
        compare >"$work/after"
        ;;
    esac
else
    cp "$work/before" "$work/after"
fi

# What became of each row: row, state, queue id, reason.
[ -f "$work/doomed" ] || : >"$work/doomed"
[ -f "$work/between" ] || : >"$work/between"
awk -F '\t' -v OFS='\t' -v action="$action" -v act="$act" -v doomed="$work/doomed" -v between="$work/between" '
    BEGIN {
        while ((getline line < doomed) > 0) ours[line] = 1
        while ((getline line < between) > 0) {
            split(line, part, "\t")
            if (part[1] == "match" && part[4] == "hold" && (part[3] in ours)) sure[part[2]] = 1
        }
    }
    {
        state = $1
        why = $5
        if (state == "match") {
            state = "left"
            if ($4 == "active" || $4 == "incoming") why = "it is being delivered at this moment: run this again"
            else if ($4 != "hold" && $4 != "deferred") why = "it is in the queue " $4
            else if (action == "hold" && $4 == "hold") state = "held"
            else if (action == "release" && $4 == "deferred") state = "released"
            else if (action == "delete" && act == "yes" && $4 == "hold") {
                state = "held"
                why = "on hold, but not deleted"
            } else if (act == "yes") why = "postsuper did not move it"
            else {
                state = "would " action
                why = ""
            }
            if (action == "release" && act != "yes" && state == "released") state = "not on hold"
            if (action == "release" && ($4 == "active" || $4 == "incoming")) {
                state = (act == "yes") ? "released" : "not on hold"
                why = ""
            }
        } else if (state == "gone" && action == "delete" && ($2 in sure)) {
            state = "deleted"
            why = ""
        }
        print $2, state, $3, why
    }' "$work/after" >"$work/states"

echo "incident $incident, host $host: $action"
awk -F '\t' '{ n[$2]++ } END { for (state in n) printf "  %-14s %d\n", state, n[state] }' "$work/states" | sort
awk -F '\t' -v all="$verbose" '
    (all == "yes" || $2 == "refused" || $2 == "left") && !(($2, $3, $4) in seen) {
        seen[$2, $3, $4] = 1
        if (all == "yes" || ++shown <= 20) print "  " $2 ": " $3 ($4 == "" ? "" : ": " $4)
        else more++
    }
    END { if (more) print "  ... and " more " more; --verbose names all" }' "$work/states"

if [ "$act" = yes ]; then
    [ -n "$result" ] || result="resend-$incident-$action-$(date -u +%Y%m%dT%H%M%SZ).result"
    {
        printf 'resend-queue\t1\t%s\t%s\t%s\t%s\n' "$incident" "$action" "$host" "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
        cut -f 1-3 "$work/states"
        printf 'end\t%d\n' "$(awk 'END { print NR }' "$work/states")"
    } >"$result" || fail 1 "cannot write $result; the queue was changed as shown"
    echo "result: $result   next, where resend runs: resend queue $incident --confirm $result"
else
    echo "nothing was changed; to do it: sh $0 --yes"
fi
awk -F '\t' '$2 == "refused" || $2 == "left" { found = 1 } END { exit found ? 3 : 0 }' "$work/states"
