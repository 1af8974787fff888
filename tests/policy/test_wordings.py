"""Causes in the words of many languages and servers: whose the words are, and what time they name."""

from __future__ import annotations

import pytest

from resend.model import Action
from resend.model import CauseClass as C
from resend.policy.classify import Rules
from resend.policy.replies import codes, retry_after, stage_of
from resend.policy.verdict import decide

RULES = Rules.load()


@pytest.mark.parametrize(
    ("expected", "texts"),
    [
        (C.MAILBOX_GONE, ("550 utente sconosciuto", "550 onbekende gebruiker", "550 neznámý uživatel",
                          "550 존재하지 않는 사용자입니다", "550 收件人不存在", "550 ukendt modtager")),
        (C.MAILBOX_TEMPORARY, ("552 Postfach voll", "552 La casella è piena", "552 El buzón está lleno",
                               "552 почтовый ящик переполнен", "552 收件人邮箱已满", "552 메일함이 가득 찼습니다",
                               "552 受信者のメールボックスが満杯です", "550 mail folder of <a@b.jp> is full")),
        (C.THROTTLED, ("421 Zu viele Verbindungen", "421 Demasiadas conexiones", "421 Слишком много соединений",
                       "450 发送频率过高", "450 送信頻度が高すぎます", "450 slow down, you send too fast",
                       "451 out of allowance: number of rcpts is too high for one mail, too many recipients")),
        (C.GREYLISTED, ("450 en liste grise, veuillez réessayer", "451 灰名单", "450 グレイリスト",
                        "450 4.7.1 greylisted, come again")),
        (C.SENDER_BLOCKED, ("550 Ihre IP steht auf einer Sperrliste: blacklist", "554 votre IP est sur liste noire",
                            "550 bad sender's IP", "550 sender IP check: it is a bad sender ip",
                            "550 listed as an openrelay")),
        (C.POLICY_REJECTED, ("550 受信拒否されています", "550 this box takes mail within the same domain only",
                             "550 5.7.1 recipient <a@b.jp> blacklisted by the user",
                             "550 5.7.1 <a@b.jp> is for internal users only")),
        (C.AUTH_FAILED, ("550 you are not localhost, whatever your greeting says", "550 forged IPs are not welcome",
                         "550 I do not believe you are mx.example.jp", "550 5.7.1 <pr@example.jp> from unknown TLD",
                         "554 <pr@example.jp>: from address is not verified")),
        (C.TRANSIENT_INFRA, ("421 the session was interrupted", "450 session closed by the spooler",
                             "Die Verbindung wurde abgebrochen", "Zeitüberschreitung beim Lesen", "Connexion perdue",
                             "se superó el tiempo de espera")),
        (C.BAD_DOMAIN, ("550 example: that is not an e-mail domain", "550 Unbekannte Domain", "550 Domaine introuvable",
                        "550 域名不存在", "5.4.310 DNS domain b.jp does not exist [Message=InfoDomain]")),
    ],
)  # fmt: skip
def test_words_of_many_languages(expected: C, texts: tuple[str, ...]) -> None:
    assert {text: RULES.classify(text).cls for text in texts} == dict.fromkeys(texts, expected)


@pytest.mark.parametrize(
    ("expected", "texts"),
    [
        (C.MAILBOX_GONE, ("550 no entry, the name is not found in LDAP server", "550 not found in the directory",
                          "550 the user SALES does not exist", "550 5.1.1 does not exist", "550 user has no mail",
                          "550 account not available", "550 mailbox a@b.jp unavailable", "550 account locked: disuse",
                          "550 the account is locked for long inactivity", "550 recipient verification failed",
                          "550 5.1.1 no such user (we prefer that TLS is required)", "550 esta casilla: falta de uso",
                          "550 Diese Mailadresse ist nicht mehr gültig", "550 このメールアドレスは現在使用できません",
                          "550 邮箱已被注销")),
        (C.POLICY_REJECTED, ("550 mailbox a@b.jp is blocked because of inactivity", "550 recipients were rejected",
                             "550 Der Empfänger möchte keine Post von dort")),
        (C.THROTTLED, ("421 4.3.2 client connections 7 exceed 5/10s", "450 bitte langsamer senden")),
        (C.AUTH_FAILED, ("550 5.7.26 your unauthenticated mail has been blocked", "550 it is unauthenticated",
                         "554 blocked, for its return address is invalid", "550 no Purported Responsible sender",
                         "550 Rückwärtsauflösung fehlt")),
        (C.LOCAL_CONFIG, ("550 session encryption is required", "530 5.7.0 here STARTTLS is mandatory",
                          "553 sender must equal authorized login")),
        (C.SENDER_BLOCKED, ("554 Ihr Server wird blockiert", "554 Votre serveur est bloqué", "550 lista de bloqueo")),
        (C.TRANSIENT_INFRA, ("450 recipient verification failed", "550 the LDAP query found too many results",
                             "550 not found in LDAP server: LDAP server is down")),
        (C.CONTENT_REJECTED, ("550 email filtering stopped it", "552 邮件过大")),
    ],
)  # fmt: skip
def test_short_words_without_a_code_of_their_own(expected: C, texts: tuple[str, ...]) -> None:
    assert {text: RULES.classify(text).cls for text in texts} == dict.fromkeys(texts, expected)


@pytest.mark.parametrize(
    "text",
    [
        # our own account, as the relay's customer
        "550 Ihr Konto ist deaktiviert",
        "550 Votre compte est désactivé",
        "550 お客様のアカウントは登録されていません",
        "550 您的邮箱已停用",
        "535 user unknown or bad password",
        "550 your sending address was disabled for inactivity",
        "550 relay account disabled due to inactivity",
        # the sender's address
        "550 отправитель не существует",
        "550 Ihre Domain existiert nicht",
        "550 您的域名不存在",
        "550 差出人アドレスが無効です",
        "550 the address you send from cannot be located",
        # what passes
        "550 Postfach geschlossen wegen Wartung",
        "550 boîte fermée temporairement",
        "550 recipient verification failed, our backend is down",
        # other things that are missing or idle
        "550 5.1.1 signature does not exist",
        "550 5.1.1 no such rule",
        "550 IPアドレスが無効です",
        "550 inactivity timer expired for the user session",
        "550 expéditeur inconnu: l'adresse n'existe pas",
        "550 送信元アドレスが存在しません",
        "550 bounce address: user unknown",
        "550 The domain of your email does not exist",
        "550 no such user: SPF says example.jp does not send from here",
        # a server's inside, a host, a file, a header
        "554 mailbox server could not be located",
        "550 directory service for recipients abandoned the query",
        "550 This email does not have a subject",
        "554 no such attachment allowed for this recipient",
        "554 No mail service for you. Service not available: your network's MX is invalid",
        "553 source routed address, relaying denied",
        "550 command is not a recognized email command",
        "550 your host is not a recognised email relay",
        "550 a user could not be found for this login",
        "550 reverse address could not be found",
        "550 status of <a@b.jp> unknown at this time",
        # a rule of the owner
        "550 this recipient is not in my list of allowed recipients",
        "550 mail receiving disabled by the owner",
        "550 this user no longer accepts mail from mailing lists",
        "550 le destinataire a désactivé la réception des messages externes",
        # how the address is written
        "501 5.1.3 bad recipient address syntax",
        "550 recipient address required",
        # before RCPT nobody knows the recipient
        "550 domain of <news@example.jp> does not exist (in reply to MAIL FROM command)",
        "550 no such domain (in reply to EHLO command)",
    ],
)
def test_no_living_address_is_called_dead(text: str) -> None:
    cause = RULES.classify(text)
    assert cause.cls not in (C.MAILBOX_GONE, C.BAD_DOMAIN)
    assert decide(cause, code=codes(text)[0]).action is not Action.NEVER


def test_at_mail_a_missing_domain_is_ours() -> None:
    text = "550 5.1.2 domain example.jp does not exist"
    assert RULES.classify(text).cls is C.BAD_DOMAIN
    assert RULES.classify(text, stage="rcpt").cls is C.BAD_DOMAIN
    assert RULES.classify(text, stage="mail").cls is not C.BAD_DOMAIN
    assert RULES.classify(text, stage="ehlo").cls is not C.BAD_DOMAIN


def test_the_last_command_named_is_the_stage() -> None:
    inner = "host a said: 550 host b said: 550 no (in reply to RCPT TO command) (in reply to end of DATA command)"
    assert stage_of(inner) == "dot"


@pytest.mark.parametrize("text", ["554- (RTR:DU) see there", "554-(RTR:DU) see there", "554 (RTR:DU) see there"])
def test_a_code_before_a_bracket_is_a_code(text: str) -> None:
    assert codes(text)[0] == 554


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("450 come again in an hour", 3_600),
        ("450 try again in half an hour", 1_800),
        ("450 wait two minutes, then try again", 120),
        ("450 Retry-After: 300", 300),
        ("450 try again 3 minutes later", 180),
        ("450 bitte in 5 Minuten wieder", 300),
        ("450 réessayez dans 5 minutes", 300),
        ("450 inténtelo en 5 minutos", 300),
        ("450 riprovare tra 5 minuti", 300),
        ("450 повторите через 10 минут", 600),
        ("450 5분 후에 다시", 300),
        ("450 请在1小时后重试", 3_600),
        ("450 1時間後に送り直してください", 3_600),
        ("450 １時間後に送り直してください", 3_600),
        ("450 30分以上あけてください", 1_800),
        # a rate's window, an age and a connection's patience are no waiting times
        ("450 1時間に100通まで", None),
        ("450 more than 100 mails in an hour", None),
        ("450 expired after 5 days", None),
        ("450 timed out after 30 seconds", None),
        ("450 100 mails per hour at most", None),
    ],
)
def test_times_in_words_and_languages(text: str, seconds: int | None) -> None:
    assert retry_after(text) == seconds
