"""What reports say in other languages than English: rows of the patterns of `phrases.py`, a language or a few in a row.

Exchange, Gmail and the mail systems of providers write in the language of who sent the mail.
"""

from __future__ import annotations

# A mail did not arrive.
FAILS = (
    # Japanese
    r"(?:送信|配信|配送|送達|お届け)(?:が|を)?(?:できませ|出来ませ|できな|出来な|に?失敗|されません)",
    r"エラー|不達|宛先不明|届きませんでした",
    r"メールボックスが|見つかりません|存在しません|受信できません|アドレス不明|お届けでき",
    # Chinese, Korean
    r"无法(?:投递|送达|发送)|退信|無法(?:投遞|傳遞|寄送|送達)|不能送达|未能(?:送达|将)|未送达|传递失败",
    r"退回|投递(?:失败|不成功)|发送失败|傳送失敗",
    r"배달(?:하지|할 수|되지)|전송(?:되지|하지|이? ?실패)|반송|전달되지",
    # Russian, Ukrainian, Bulgarian, Serbian
    r"не (?:может быть|удалось|удается|доставлен|было доставлен)|недоставл|неизвест|не существует",
    r"не найден|сбой доставки",
    r"не вдалося доставити|не (?:може бути|було) доставлен|nij(?:e|esu) isporučen|nije moguće isporučiti",
    # German, Dutch
    r"nicht (?:zugestellt|gesendet|zustellbar)|unzustellbar|zustellung (?:ist )?fehlgeschlagen|zustellfehler",
    r"fehler bei der (?:nachrichten)?zustellung|\bunbekannt\b|\bexistiert nicht\b",
    r"\bniet (?:worden )?(?:be|af)?(?:zorgd|geleverd)|\bonbestelbaar|\bonbekend\b|bezorg\w* is mislukt",
    # Romance languages
    r"\bno (?:se )?(?:ha |fue |pudo )?(?:podido |sido |ser )?(?:entrega|enviad)|\bno entregado",
    r"\bdesconocid[oa]\b",
    r"\bno (?:se pudo entregar|se puede entregar|existe|ha llegado)\b|\berror (?:de|en la) entrega",
    r"\bfallo en la entrega",
    r"\bn[ãa]o (?:p[ôo]de|foi|pode) (?:ser )?(?:entregue|enviad)|\bn[ãa]o foi poss[íi]vel (?:entregar|enviar)",
    r"\bfalha na entrega|\bentrega falhou|\bn[ãa]o existe\b",
    r"\bnon (?:remis|distribu|d[ée]livr)|\bn'existe (?:pas|plus)|\binconnue?\b|[ée]chec de",
    r"\bn'?(?:a|ont) (?:pas )?(?:p[uû] )?(?:pas )?(?:[eê]tre |[ée]t[ée] )?(?:remis|d[ée]livr|distribu|achemin)",
    r"\bn'a pu [eê]tre",
    r"\bimpossibile (?:recapitare|consegnare)|\bmancat[oa] (?:recapito|consegna)|\bnon recapitabil",
    r"\brecapito non riuscito",
    r"\bnon (?:è|e') stato (?:recapitato|consegnato|inoltrato)|\bsconosciut[oa]\b|\bnon esiste\b",
    r"\berrore di consegna",
    r"\bnu a (?:putut fi |fost )?livrat|\bno s'ha pogut (?:lliurar|entregar)",
    # Northern and eastern Europe, Turkey
    r"\bdet gick inte att leverera|olevererbart|\bkunde inte levereras|\b(?:kunne|kan) ikke leveres",
    r"levering\w* (?:mislyk|til disse)",
    r"toimitus \S.{0,60}epäonnistui|\bei voi(?:tu|da)? toimittaa|toimittaminen epäonnistui",
    r"\bnie (?:zosta[łl][ao]? |może być |można )?dostarcz|niedostarczon|dostarczenie nie powiodło",
    r"\bnedoručiteln|\bnebyl[ao]? doručen|\bnebol[ao]? doručen|doručení se nezdařilo",
    r"kézbesít(?:hetetlen|és sikertelen|ése? nem sikerült)|\bteslim edilem|\bnepristatyt|\biletilem",
    r"\bgönderilemedi",
    r"δεν (?:ήταν δυνατή|παραδόθηκε)",
    # Asia and the Near East
    r"ไม่สามารถส่ง|ส่งไม่สำเร็จ|không (?:thể )?(?:gửi|chuyển|phân phối)",
    r"tidak (?:dapat|bisa|berhasil) (?:di)?kirim|gagal (?:di|ter)kirim",
    r"تعذر (?:تسليم|إرسال)|لم يتم تسليم|לא (?:ניתן|נמסר)",
)

# A mail waits.
DELAYS = (
    r"(?:配信|配送|送信)が?(?:遅延|遅れ)|遅れています|再送(?:信)?を(?:試み|続け)(?:てい)?ます",
    r"配信が(?:未完了|完了していません)",
    r"\blivraison (?:incomplète|retardée)|\bcontinuera d'essayer",
    r"\bremise (?:est |a été )?(?:retardée|différée)",
    r"\bzustellung (?:unvollständig|verzögert|ist verzögert)|\bverzögert(?:e zustellung)?\b.{0,40}zustell",
    r"\bzustellversuch\w* wird",
    r"\bnoch nicht zugestellt|\bwird (?:weiterhin|weiter) versucht",
    r"\bentrega (?:incompleta|con retraso|retrasada|atrasada)|\bvolverá a intentar",
    r"\btentará (?:novamente|entregar)|\bvai tentar novamente",
    r"\bconsegna (?:incompleta|ritardata)|\brecapito ritardato|\bulteriori tentativi",
    r"\b(?:bezorging|levering) (?:is )?vertraagd|\bopnieuw geprobeerd|\bfördröj(?:d|ad)\b|\bforsinket\b",
    r"\bopóźnion",
    r"доставка (?:задерж|отлож)|(?:попытки|попытка) доставки.{0,30}(?:продолж|повтор)|пытаться доставить",
    r"(?:投递|传递|傳遞|邮件)(?:已)?(?:延迟|延遲)|(?:继续|繼續)(?:尝试|嘗試)(?:投递|传递|傳遞|发送)?",
    r"배달이? ?지연",
)

# Subjects of reports.
SUBJECTS = (
    r"toimittaminen epäonnistui|\bei voi toimittaa|niet te leveren|niet (?:afgeleverd|bezorgd)|onbestelbaar",
    r"\bnon remis|non distribu|échec|no se puede entregar|no (?:se )?(?:pudo )?entrega",
    r"(?:mensaje|correo) devuelto",
    r"n[ãa]o entregue|falha na entrega|erro (?:na|de) entrega|mancat[oa] (?:consegna|recapito)",
    r"non recapitabil|impossibile recapitare",
    r"niedostarczon|nedoručiteln|nebyla doru[čc]ena|nepodarilo sa doručiť",
    r"ej leverat|kunde inte levereras|kan ikke leveres|kunne ikke leveres|teslim edilem|iletilemedi",
    r"kézbesíthetetlen",
    r"не удается доставить|не доставлено|недоставл|ошибка доставки|сбой доставки|konnte nicht zugestellt",
    r"zustellfehler",
    r"(?:zustellung|übermittlung) fehlgeschlagen|unzustellbar|nicht zustellbar|olevererbart",
    r"退信|退回|未送达|未传递|无法投递|投递失败|发送失败|無法傳遞|配信不能|배달되지|배달 실패|반송|전송 ?실패",
    r"送信(?:できません|エラー|失敗)|配信(?:できません|エラー|不能|失敗)|メールエラー|エラー通知|不達",
    r"届きませんでした",
    # "delivery status notification" of Hotmail, Outlook and Gmail
    r"zustellungsstatus|status der zustellung|übermittlungsstatus|[ée]tat de (?:la )?(?:remise|distribution)",
    r"estado de (?:la )?entrega|estado da entrega|status de entrega",
    r"stato del(?:la)? (?:recapito|consegna)|leverings?status",
    r"bezorgingsstatus|leveransstatus|stan(?:ie)? dostarcz|stavu doručení|teslim durumu|состоянии? доставки",
    r"配信(?:状態|状況|ステータス)|(?:传递|投递)状态|傳遞狀態|배달 상태",
)

# Subjects of automatic replies.
AUTO_REPLIES = (
    r"\bréponse automatique|\babsent(?:e)? d[ue] bureau|\bmessage d'absence|\babwesenheit",
    r"\bnicht im (?:haus|büro)",
    r"\brespuesta automática|\bfuera de (?:la )?oficina|\brisposta automatica|\bfuori (?:sede|ufficio)",
    r"\bresposta automática|\bausência (?:do|temporária)|\bfora do escritório",
    r"\bautomatick[áa] odpov|\bautomatiska? (?:svar|atbilde)|\bafwezig|\bautomatisch antwoord",
    r"\bautomatyczna odpowied|\bpoissa\b",
    r"\bautomaattinen vastaus|\bautomatikus válasz|\botomatik yanıt|\bfrånvaro|\bfravær",
    r"自動(?:返信|応答|送信|回覆)|不在(?:通知|の(?:お知らせ|ため|連絡))|受付完了",
    r"お問い?合わ?せ(?:ありがとう|を受け)",
    r"自动(?:回复|答复)|不在办公室|автоответ|автоматический ответ|자동 ?(?:회신|응답)|부재",
)

# Words before an address that failed.
LABELS = (
    r"auslieferung|zustell|remise|entrega|recapit|consegn|bezorg|dostarcz|auslieferbar",
    r"收件人|收件者|投递到|发送到|送达至?|수신자|받는 ?사람|메일 ?주소",
    r"宛先|あて先|送信先|受信者|送付先|メールアドレス|получател|адрес(?:ат|у)|destinat|empfänger|mottag",
    r"modtager|mottaker",
    r"odbiorc|příjemc|vastaanottaj|ontvanger|alıcı|címzett|παραλήπτ|penerima|người nhận",
)

# Headings between an address and what is said of it.
EXPLAINS = (
    r"原因|理由|причин|エラー内容|退信|사유|\bgrund\b|\bmotiv[eo]?\b|\bmotivo\b|\bcausa\b|\braison\b",
    r"\bpowód\b|\borsak\b|\breden\b",
)

# What follows is the mail that came back.
ORIGINAL_FOLLOWS = (
    r"^\W{0,20}(?:元の|原|送信した|オリジナルの?)(?:メール|メッセージ) ?(?:の?ヘッダー?|の内容|本文)?\W{0,20}$",
    r"^\W{0,20}(?:原始|原)(?:邮件|郵件)(?:头|標頭|内容|信息)?\W{0,20}$",
    r"^\W{0,20}원본 ?(?:메시지|메일)(?: 헤더)?\W{0,20}$",
    r"^\W{0,20}(?:(?:ursprünglicher? |original ?)nachricht(?:enkopf(?:zeilen)?)?)\W{0,20}$",
    r"^\W{0,20}(?:en-têtes d[eu] )?message d'origine\W{0,20}$|^\W{0,20}mensaje original(?: adjunto)?\W{0,20}$",
    r"^\W{0,20}(?:encabezados? (?:originales )?del? mensajes?(?: original(?:es)?)?)\W{0,20}$",
    r"^\W{0,20}(?:intestazioni originali del messaggio|messaggio originale)\W{0,20}$",
    r"^\W{0,20}(?:cabeçalhos? (?:originais )?d[ae] mensage[mn]s?(?: original)?|mensagem original)\W{0,20}$",
    r"^\W{0,20}(?:исходн\w{1,6} (?:заголов\w{1,6}|сообщени\w{1,6}|письм\w)(?: сообщения)?)\W{0,20}$",
)

# A mail of the reader's.
OF_MAIL = (
    r"メール(?:を|が|は|の)?(?:送信|配信|配送|お届け|届き|送達)",
    r"(?:送信|配信)(?:された|した|された)?メール|(?:送信|配信)エラー|宛先|あて先",
    r"(?:您|你)(?:的|发送的|發送的|发给)?.{0,12}(?:邮件|郵件)|退信|收件人|收件者",
    r"(?:고객님|보내신|귀하).{0,12}메일|받는 ?사람",
    r"\b(?:ihre|deine) (?:e-?mail|mail|nachricht)|\bvotre (?:e-?mail|courrier|message|courriel)",
    r"\b(?:su|tu) (?:mensaje|correo)",
    r"\bsua mensagem|\b(?:il (?:suo|tuo)|nel) messaggio|\b(?:uw|je) (?:e-?mail|bericht)",
    r"\btwoj[ae] wiadomo|\bvaše zpráv",
    r"ваш(?:е|а) (?:письмо|сообщение)|\bditt meddelande|\bdin (?:besked|melding)|\bmeddelelsen",
    r"\bmesajınız|\biletiniz",
)
