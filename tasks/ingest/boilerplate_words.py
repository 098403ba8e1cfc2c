"""Words by which lines of pages are known that are no content, in the languages that crawls hold most of.

All are matched from the beginning of short lines, in lower case and without marks in front, so that a sentence that
speaks of comments or cookies is no notice. The alternatives begin with letters: `re` passes over those quickly.
"""

from __future__ import annotations

import re

NOTICE_LENGTH = 240  # bytes of UTF-8; longer lines are text
SECTION_LENGTH = 70

# What stands in front of a line's first word.
MARKS = " \t\u00a0\u3000•·●○■□▪▶►→»›>|/*+~–—-_=#[(【（《「『“\"'…:：."

# Classes of elements that resiliparse's main content keeps and that hold captions, consent notices and teasers. CSS.
# `figcaption` it leaves out itself, as we ask for no alternative texts.
SKIPPED = (
    ".wp-caption-text",
    ".caption",
    ".image-caption",
    ".photo-caption",
    ".related",
    ".related-articles",
    ".related-posts",
    ".related-content",
    ".related-stories",
    ".newsletter",
    ".newsletter-signup",
    ".most-popular",
    ".recommended",
    ".author-bio",
    ".cookie-banner",
    ".cookie-notice",
    ".advertisement",
)


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_KINDS = r"(?:articles?|stories|posts?|news|content|topics?|links?|coverage|headlines|videos?|reading)\b"

# Teasers begin, and end where running text goes on.
TEASERS = _any(
    r"related (?:\w+ )?" + _KINDS,
    r"similar (?:\w+ )?" + _KINDS,
    r"recommended(?: for you\b|\W*$| (?:\w+ )?" + _KINDS + ")",
    r"suggested(?: for you\b|\W*$| (?:\w+ )?" + _KINDS + ")",
    r"popular (?:\w+ )?" + _KINDS,
    r"recent (?:\w+ )?" + _KINDS,
    r"latest (?:\w+ )?" + _KINDS,
    r"trending(?: now)?\W*$",
    r"more (?:\w+ )?" + _KINDS,
    r"more (?:in|from|on|about|like this)\b",
    r"most (?:popular|read|viewed|shared|commented|recent)\b",
    r"you (?:may|might) (?:also )?(?:like|enjoy|be interested)",
    r"read (?:next|also)\b|up next\b|what to read next|watch next|see also\W*$|don['’]t miss\W*$",
    r"share (?:this|on)\b|newsletter|sign up for\b|subscribe to\b|advertisement|sponsored\b|promoted\b",
    r"das könnte (?:sie|dich|ihnen|dir|euch) auch|mehr zum thema|artikel zum thema|lesen sie (?:auch|mehr)",
    r"ähnliche (?:artikel|beiträge|themen)|verwandte (?:artikel|beiträge|themen)|weitere (?:artikel|beiträge|meldungen"
    r"|nachrichten|themen)|neueste (?:artikel|beiträge|nachrichten)|aktuelle (?:artikel|beiträge|nachrichten)",
    r"auch interessant|meistgelesen|beliebte (?:artikel|beiträge)|teilen mit|diesen (?:artikel|beitrag) teilen",
    r"à lire (?:aussi|également)|lire aussi|articles? (?:similaires?|liés?|connexes?|récents?)",
    r"sur le même (?:sujet|thème)|les plus lus|vous aimerez",
    r"artículos (?:relacionad|similares|recientes)|noticias relacionad|te puede interesar|le[ae] también",
    r"lo más (?:leído|visto)",
    r"leggi anche|articoli correlat|notizie correlat|potrebbe(?:ro)? interessart",
    r"leia (?:também|mais)|veja também|notícias relacionad|artigos relacionad",
    r"zobacz (?:także|również|też)|czytaj (?:także|również|też)|przeczytaj (?:także|również|też)",
    r"podobne (?:artykuły|wpisy)|polecamy\b",
    r"читайте также|похожие (?:статьи|записи|новости|материалы)|по теме\W*$",
    r"相关(?:阅读|文章|新闻|推荐|内容|链接|报道|资讯)|推荐(?:阅读|文章)|延伸阅读|热门(?:文章|推荐|新闻|排行)|猜你喜欢",
    r"相關(?:新聞|文章|閱讀)|延伸閱讀|推薦(?:閱讀|文章)|熱門(?:文章|新聞)",
    r"関連(?:記事|リンク|ニュース|キーワード)|おすすめ(?:の)?記事|人気(?:の)?記事|最新(?:の)?記事|最近の(?:記事|投稿)",
    r"スポンサードリンク|관련 ?(?:기사|뉴스)|인기 ?기사",
)

# What other people say, or who said it: the page ends here.
ENDING = _any(
    r"\d+ (?:comments?|kommentare?|commentaires?|comentarios?|commenti|comentários?)\W*$",
    r"comments?\W*\d*\W*$|leave (?:a |your )?(?:reply|comment)|post (?:a |your )?comment|add (?:a |your )?comment",
    r"write (?:a |your )?comment|join the (?:conversation|discussion)|about the authors?\b",
    r"kommentare?\W*\d*\W*$|kommentar (?:schreiben|hinterlassen)|schreibe einen kommentar|über den autor",
    r"commentaires?\W*\d*\W*$|laisser un commentaire|à propos de l['’]auteur",
    r"comentarios?\W*\d*\W*$|deja (?:un|tu) (?:comentario|respuesta)|sobre el autor|commenti\W*\d*\W*$",
    r"comentários?\W*\d*\W*$|komentarze\W*\d*\W*$|комментари[ийея]\w*\W*\d*\W*$",
    r"发表评论|网友评论|最新评论|全部评论|コメント\W*\d*\W*$|댓글\W*\d*\W*$",
)

# A line that calls the reader to do something, credits a picture or states rights.
NOTICE = _any(
    r"subscribe(?: now| here| today| for| to| with|\W*$)|sign (?:up|in)(?: now| here| today| for| to| with|\W*$)",
    r"log in(?: to| with| or|\W*$)|register(?: now| here| today|\W*$)|(?:click|tap) (?:here|below)\b",
    r"get (?:our|the latest|breaking|daily|weekly)\b.*\b(?:inbox|newsletter|app|browser|notifications)\b",
    r"get .{0,40}\bapp\b|download .{0,40}\bapp\b",
    r"(?:follow|like|find|join) .{0,30}\bon (?:facebook|twitter|instagram|telegram|linkedin|x)\b",
    r"follow (?:us|me)\b|like us\b|like this story\b|share(?: (?:this|on|to|via|with|it)\b.{0,60})?\W*$",
    r"tweet\W*$|pin\W*$",
    r"email(?: this.{0,30})?\W*$|print(?: this.{0,30})?\W*$|send(?: this.{0,30})?\W*$|share via .{0,20}$",
    r"(?:read|see|learn|view|show|load|find out) (?:more|all|below)\b.{0,20}$|continue reading\b.{0,20}$",
    r"(?:read more|related|see also|see more|also on|recommended|explore further|filed under|posted in|tags?|topics"
    r"|categor(?:y|ies)|related roundup|buyer['’]s guide)(?:\s*[:：]|\W*$)",
    r"see more[a-z]|also on [\w.]+ ",
    r"(?:advertisement|advert|ad|sponsored|promoted|anzeige|werbung|publicité|publicidad|pubblicità|reklama|реклама|广告)\W*$",
    r"(?:article|story) continues (?:below|after)",
    r"(?:view|post|leave|show|hide|add) (?:a |all )?\d* ?comments?\W*(?:\d*\+?|off|closed)\W*$",
    r"comments?\W*(?:off|closed)?\W*$",
    r"comments are closed|comments powered by\b|blog comments powered by\b|(?:please )?enable javascript",
    r"loading\W*$|close\W*$|caption\W*$|next\W*$|previous\W*$|back to top\W*$|skip to (?:main )?content\W*$",
    r"menu\W*$|search\W*$|image \d+ of\b|photos?(?: credits?| by)?\s*[:：]|images?(?: credits?| by)?\s*[:：]",
    r"pictures?\s*[:：]|credits?\s*[:：]",
    r"foto\s*[:：]|bild(?:quelle)?\s*[:：]|crédits? photo|©|copyright\b|c\) (?:copyright|\d{4})",
    r"\d+ (?:shares?|likes?|views?|comments?)\W*$",
    r"(?:published|updated|last updated|first published|posted|last modified)(?: on| at)?\s?[:：]",
    r"abonnieren\b|abonnez-vous|suscríbete|iscriviti|newsletter|jetzt (?:anmelden|abonnieren)|s['’]abonner\b",
    r"(?:teilen|drucken|kommentieren|partager|imprimer|compartir|imprimir|condividi|udostępnij|drukuj)\W*$",
    r"(?:weiterlesen|mehr lesen|lire la suite|leer más|leggi tutto|czytaj (?:więcej|dalej)|читать далее|阅读全文)\W*$",
    r"上一篇|下一篇|上一页|下一页|分享到|责任编辑|点击(?:这里|查看|进入)|返回(?:顶部|首页)|扫一扫|字号|打印|加入收藏",
    r"前の記事|次の記事|シェアする|ツイート|トップへ戻る|続きを読む|공유하기|기사제보",
    r"this (?:article|story|post|report) (?:was |has been )?(?:originally|first) (?:appeared|published)\b.{0,80}$",
)

# Anywhere in a short line.
RIGHTS = (
    "all rights reserved",
    "alle rechte vorbehalten",
    "tous droits réservés",
    "todos los derechos reservados",
    "tutti i diritti riservati",
    "todos os direitos reservados",
    "wszelkie prawa zastrzeżone",
    "все права защищены",
    "版权所有",
    "无断转载",
    "無断転載",
)

# A line of any length with one of the first and one of the second asks for consent.
COOKIES = ("cookie", "ciasteczk", "tracking technolog")
CONSENT = re.compile(
    r"\b(?:accept|consent|agree|privacy policy|cookie policy|browsing|by continuing|continue to (?:use|browse)|we use"
    r"|settings|zustimm|einverstanden|datenschutz|akzeptier|wir verwenden|seite (?:verwendet|nutzt|benutzt)|acceptez"
    r"|en poursuivant|confidentialité|nous utilisons|acept|privacidad|utilizamos|accett|utilizziamo|polityk|używ)"
    r"|使用|利用|同意"
)
